//! End-to-end tests: the real binary, real processes, real sockets, folders of their own.
//!
//! What needs a foreign program (PostgreSQL, pymodbus, mbpoll, confluent-kafka, kcat, strace) runs with
//! `SF_TEST_EXTERNAL=1` and says `not run: ...` otherwise. Longer runs by environment: `SF_KILLS=20`,
//! `SF_BROKER_KILLS=1000`, `SF_SOAK_SECONDS=600`, `SF_OUTAGE_SECONDS=180`; `SF_SEED` repeats a random run; `SF_KEEP=1` keeps the folders. Python is `SF_PYTHON` or `python3`.
//! `scripts/test-external.sh` runs the same tests of gateways against Apache Kafka.

mod alerts;
mod broker;
mod broker_disk;
mod broker_kills;
mod commissioning;
mod ctl;
mod documents;
mod first_values;
mod foreign_clients;
mod guarded;
mod harness;
mod identities;
mod kills;
mod ledger_ctl;
mod mbpoll;
mod mqtt;
mod outage;
mod points;
mod pymodbus;
mod replication;
mod resources;
mod runtime_kills;
mod story;
mod users;
