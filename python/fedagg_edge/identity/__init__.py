"""Who a node is and how another checks it: keys, enrolment tokens, certificates, TLS, signed artefacts.

Two halves. `facts`, `folder`, `pem`, `tokens`, `renewal`, `revocation`, `tls`, `requests` and `offload` need the
standard
library and msgspec only: long-lived processes use these. `keys`, `authority`, `chain`, `issue`, `enrolment`,
`signing` and
`process` import `cryptography` and run in processes that end within a second.
"""
