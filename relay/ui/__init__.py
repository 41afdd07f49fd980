"""The pages where an exporter is written, tried and watched, served at the API's addresses."""
