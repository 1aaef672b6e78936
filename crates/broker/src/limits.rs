//! Every limit of the broker, with what happens on reaching it.

use std::time::Duration;

/// First frame of a connection, in bytes; a longer one closes the connection. Nobody opens with more than a batch.
pub(crate) const FIRST_FRAME_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes of frames of all connections that are being received or decoded; beyond it connections wait to be read.
pub(crate) const PENDING_FRAME_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Requests of one connection that wait for their answer; beyond it the connection is not read.
pub(crate) const REQUESTS_IN_FLIGHT_MAX: usize = 64;
/// Time a started frame may take to arrive; a slower connection is closed.
pub(crate) const FRAME_DEADLINE: Duration = Duration::from_mins(1);
/// Time between two requests; a connection that is idle for longer is closed.
pub(crate) const IDLE_DEADLINE: Duration = Duration::from_mins(10);
/// Time a client may take to accept an answer; a slower connection is closed.
pub(crate) const WRITE_DEADLINE: Duration = Duration::from_mins(10);
/// Time for answers in flight after the client stopped sending; then they are dropped.
pub(crate) const DRAIN_DEADLINE: Duration = Duration::from_secs(5);
/// Time for answers in flight when the broker stops; a client that does not take them in time loses them.
pub(crate) const STOP_DRAIN_DEADLINE: Duration = Duration::from_millis(500);
/// Time for connections and tasks to end when the broker stops; what still runs is aborted.
pub(crate) const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// Bytes of records in one answer to a fetch; the client asks again for the rest.
pub(crate) const FETCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longest wait of a fetch, whatever the client asks for.
pub(crate) const FETCH_WAIT_MAX: Duration = Duration::from_mins(5);

/// Topics; creating more is refused with POLICY_VIOLATION.
pub(crate) const TOPICS_MAX: usize = 2_000;
/// Partitions of one topic; more are refused with INVALID_PARTITIONS.
pub(crate) const TOPIC_PARTITIONS_MAX: i32 = 1_000;
/// Partitions of all topics; creating more is refused with POLICY_VIOLATION.
pub(crate) const PARTITIONS_MAX: usize = 10_000;
/// Consumer groups; a further one is refused with COORDINATOR_NOT_AVAILABLE.
pub(crate) const GROUPS_MAX: usize = 10_000;
/// Offsets one group may store; more are refused with INVALID_COMMIT_OFFSET_SIZE.
pub(crate) const GROUP_OFFSETS_MAX: usize = 20_000;
/// Bytes of the note a client attaches to an offset; longer ones are refused with OFFSET_METADATA_TOO_LARGE.
pub(crate) const OFFSET_NOTE_BYTES_MAX: usize = 4_096;

/// Body of a request to the schema registry, in bytes; a longer one is answered 413.
pub(crate) const REGISTRY_BODY_BYTES_MAX: usize = 1024 * 1024;

/// Connections that have not finished TLS and login, of all listeners that ask for them; a further one is closed.
pub(crate) const LOGINS_MAX: usize = 256;
/// Of these, from one address; a further one is closed, so that one address cannot shut the others out.
pub(crate) const LOGINS_PER_ADDRESS_MAX: usize = 128;
/// Time for TLS and login together; a slower connection is closed.
pub(crate) const LOGIN_DEADLINE: Duration = Duration::from_secs(10);
/// Frame of a connection that has not logged in, in bytes; a longer one closes the connection.
pub(crate) const LOGIN_FRAME_BYTES_MAX: usize = 64 * 1024;
/// Passwords of PLAIN verified at the same time; further logins wait within their deadline.
pub(crate) const PASSWORD_CHECKS_MAX: usize = 2;
/// Time a failed login is kept waiting for its answer, so that guessing is slow.
pub(crate) const FAILED_LOGIN_DELAY: Duration = Duration::from_millis(250);
/// Users; a further one is refused with POLICY_VIOLATION.
pub(crate) const USERS_MAX: usize = 1_000;
/// Access rules; more are refused with POLICY_VIOLATION.
pub(crate) const RULES_MAX: usize = 2_000;
/// Quotas; more are refused with POLICY_VIOLATION.
pub(crate) const QUOTAS_MAX: usize = 1_000;
/// Users and clients whose use of a quota is remembered; beyond it those who are at rest are forgotten, then all, who
/// begin with full credit again.
pub(crate) const QUOTA_BUCKETS_MAX: usize = 10_000;
