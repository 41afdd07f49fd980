"""The API's own certificates, where clocks are wrong while they are made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from relay.apiserver.access.certificates import ensure_certificates

NOW = datetime(2026, 11, 29, tzinfo=UTC)


@pytest.mark.parametrize("days", [-3000, -1, 400, 3000])
def test_a_wrong_clock_leaves_certificates_that_are_valid_later(tmp_path: Path, days: int) -> None:
    before = ensure_certificates(tmp_path, (), NOW).ca.read_bytes()
    ensure_certificates(tmp_path, ("made-anew",), NOW + timedelta(days=days))
    files = ensure_certificates(tmp_path, ("made-anew",), NOW)
    assert files.ca.read_bytes() == before
    made = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    assert made.not_valid_before_utc <= NOW
    assert made.not_valid_after_utc > NOW + timedelta(days=30)
