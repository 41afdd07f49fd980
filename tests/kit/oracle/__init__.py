"""What has to come out, derived slowly and without the code of the relay."""
