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
/// Incremental fetch sessions; without room the client gets none and names all of its partitions each time.
pub(crate) const FETCH_SESSIONS_MAX: usize = 1_000;
/// Partitions of all fetch sessions together, some 300 bytes each; a session beyond it is not kept.
pub(crate) const FETCH_SESSION_PARTITIONS_MAX: usize = 50_000;

/// Topics; creating more is refused with POLICY_VIOLATION.
pub(crate) const TOPICS_MAX: usize = 2_000;
/// Partitions of one topic; more are refused with INVALID_PARTITIONS.
pub(crate) const TOPIC_PARTITIONS_MAX: i32 = 1_000;
/// Partitions of all topics; creating more is refused with POLICY_VIOLATION.
pub(crate) const PARTITIONS_MAX: usize = 10_000;
/// Partitions in one answer to DescribeTopicPartitions; the answer says where to go on.
pub(crate) const DESCRIBED_PARTITIONS_MAX: usize = 2_000;
/// Consumer groups; a further one is refused with COORDINATOR_NOT_AVAILABLE.
pub(crate) const GROUPS_MAX: usize = 10_000;
/// Bytes of the record that keeps a classic group over a restart; members of a larger group join anew after one.
pub(crate) const GROUP_RECORD_BYTES_MAX: usize = 900 * 1024;
/// Milliseconds that a group without members and offsets is remembered; then it is forgotten, or before when there are
/// [`GROUPS_MAX`].
pub(crate) const EMPTY_GROUP_KEPT_MS: i64 = 600_000;
/// Offsets one group may store; more are refused with INVALID_COMMIT_OFFSET_SIZE.
pub(crate) const GROUP_OFFSETS_MAX: usize = 20_000;
/// Bytes of the note a client attaches to an offset; longer ones are refused with OFFSET_METADATA_TOO_LARGE.
pub(crate) const OFFSET_NOTE_BYTES_MAX: usize = 4_096;

/// Transactional ids; for a further one the longest idle is forgotten, and where none is idle the further one is refused
/// with COORDINATOR_NOT_AVAILABLE.
pub(crate) const TRANSACTIONS_MAX: usize = 10_000;
/// Bytes of a transactional id; longer ones are refused with INVALID_REQUEST.
pub(crate) const TRANSACTIONAL_ID_BYTES_MAX: usize = 1_024;
/// Partitions of one transaction; adding more is refused with POLICY_VIOLATION.
pub(crate) const TRANSACTION_PARTITIONS_MAX: usize = 2_000;
/// Longest timeout a transaction may ask for; longer ones are refused with INVALID_TRANSACTION_TIMEOUT.
pub(crate) const TRANSACTION_TIMEOUT_MS_MAX: i32 = 15 * 60 * 1_000;
/// A transactional id that is idle for longer is forgotten: its producer has to be initialised again.
pub(crate) const TRANSACTION_IDLE_MAX_MS: i64 = 7 * 24 * 3_600 * 1_000;
/// Transactions being ended side by side; further ones wait for their turn.
pub(crate) const ENDINGS_MAX: usize = 64;
/// Time a request to end a transaction waits for the markers; then it is told to ask again.
pub(crate) const ENDING_WAIT_MAX: Duration = Duration::from_secs(25);

/// Body of a request to the schema registry, in bytes; a longer one is answered 413.
pub(crate) const REGISTRY_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Requests to the schema registry under way; beyond it they wait for their turn.
pub(crate) const REGISTRY_REQUESTS_MAX: usize = 64;
/// Schemas parsed or compared at once; beyond it requests wait, so that large ones do not take the machine.
pub(crate) const REGISTRY_JUDGES_MAX: usize = 2;
/// Time for one request to the schema registry, its body included; then it is answered 408.
pub(crate) const REGISTRY_REQUEST_DEADLINE: Duration = Duration::from_secs(30);
/// Subjects, those counted whose versions are all deleted; a further one is refused with 42205.
pub(crate) const SUBJECTS_MAX: usize = 10_000;
/// Names of subjects ever used, whose versions must not be given again; a further name is refused with 42205.
pub(crate) const SUBJECTS_REMEMBERED_MAX: usize = 100_000;
/// Versions of one subject, deleted ones counted; a further one is refused with 42205.
pub(crate) const SUBJECT_VERSIONS_MAX: usize = 10_000;
/// Bytes of a subject's name; a longer one is refused with 42208.
pub(crate) const SUBJECT_BYTES_MAX: usize = 512;
/// Bytes of the texts of all schemas; a schema beyond it is refused with 42205.
pub(crate) const SCHEMA_TEXTS_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes of schemas that one request may compare with its own; more are refused with 42205.
pub(crate) const COMPARE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Schemas that one refers to, directly and through others; more are refused with 42201.
pub(crate) const REFERENCES_MAX: usize = 1_000;
/// Schemas that refer to each other in a row; a longer row is refused with 42201.
pub(crate) const REFERENCE_DEPTH_MAX: usize = 32;
/// Values in the JSON of one schema; more are refused with 42201.
pub(crate) const REGISTRY_JSON_VALUES_MAX: usize = 200_000;
/// Bytes of one name in a schema; a longer one is refused with 42201.
pub(crate) const REGISTRY_NAME_BYTES_MAX: usize = 1_024;
/// Branches of an Avro union; more are refused with 42201.
pub(crate) const AVRO_UNION_BRANCHES_MAX: usize = 1_000;
/// Pairs of types looked at to compare two schemas; schemas that need more count as incompatible.
pub(crate) const COMPARE_STEPS_MAX: usize = 1_000_000;
/// Types inside of each other while two schemas are compared; deeper ones count as incompatible.
pub(crate) const COMPARE_DEPTH_MAX: usize = 128;
/// Differences told about one pair of schemas; the others are left out.
pub(crate) const DIFFERENCES_MAX: usize = 50;
/// Bytes of one batch in the log of schemas; a longer change is split, a longer record is refused with 42209.
pub(crate) const SCHEMAS_BATCH_BYTES_MAX: usize = 1_000_000;
/// Schemas in one answer to a search; clients ask again with an offset.
pub(crate) const SEARCH_MAX: usize = 1_000;

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

/// Partitions in the metrics; the others are counted as left out.
pub(crate) const PARTITION_ROWS_MAX: usize = 2_000;
/// Pairs of group and topic in the metrics; the others are counted as left out.
pub(crate) const LAG_ROWS_MAX: usize = 2_000;
/// Bytes of a name chosen by a client in a label; a longer one is cut.
pub(crate) const LABEL_BYTES_MAX: usize = 128;
