//! What lies on disk: DeleteRecords and DescribeLogDirs.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, DescribeLogDirsRequest, DescribeLogDirsResponse,
};

use super::{text, topic_name};
use crate::core::{Core, log_error_code};
use crate::dispatch::Call;

/// Asks for the end of the log instead of an offset.
const HIGH_WATERMARK: i64 = -1;

pub(crate) async fn delete(core: Arc<Core>, call: Call, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for asked in request.topics {
        let mut answers = Vec::with_capacity(asked.partitions.len());
        for part in &asked.partitions {
            let answer = DeleteRecordsPartitionResult::default().with_partition_index(part.partition_index);
            answers.push(match delete_before(&core, &asked.name, part.partition_index, part.offset) {
                Ok(start) => answer.with_low_watermark(start),
                Err(error) => {
                    core.metrics.count_error(call.api, error.code());
                    answer.with_error_code(error.code()).with_low_watermark(-1)
                }
            });
        }
        topics.push(DeleteRecordsTopicResult::default().with_name(asked.name).with_partitions(answers));
    }
    DeleteRecordsResponse::default().with_topics(topics)
}

fn delete_before(core: &Core, name: &str, index: i32, offset: i64) -> Result<i64, ResponseError> {
    let topic = core.topics.get(name).ok_or(ResponseError::UnknownTopicOrPartition)?;
    let partition = topic.partition(index).ok_or(ResponseError::UnknownTopicOrPartition)?;
    if topic.internal() {
        return Err(ResponseError::InvalidTopicException);
    }
    if !topic.config.get("cleanup.policy").contains("delete") {
        return Err(ResponseError::PolicyViolation);
    }
    let end = core.visible_end(&partition.log);
    let offset = if offset == HIGH_WATERMARK { end } else { offset };
    if !(0..=end).contains(&offset) {
        return Err(ResponseError::OffsetOutOfRange);
    }
    let deleted = partition.log.delete_records_before(offset);
    partition.waiters.wake(); // fetch sessions tell the new start
    deleted.map_err(|error| {
        tracing::error!(topic = name, partition = index, error = %daemon::report(&error), "cannot delete records");
        log_error_code(&error)
    })
}

pub(crate) async fn describe_log_dirs(
    core: Arc<Core>,
    call: Call,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let mut topics = Vec::new();
    for topic in core.topics.all() {
        let wanted = match &request.topics {
            None => None,
            Some(asked) => match asked.iter().find(|asked| *asked.topic.0 == *topic.name) {
                Some(asked) => Some(&asked.partitions),
                None => continue,
            },
        };
        let chosen =
            topic.partitions.iter().filter(|partition| wanted.is_none_or(|list| list.contains(&partition.index)));
        let partitions = chosen
            .map(|partition| {
                let size = i64::try_from(partition.log.size_bytes()).unwrap_or(i64::MAX);
                DescribeLogDirsPartition::default().with_partition_index(partition.index).with_partition_size(size)
            })
            .collect();
        topics.push(DescribeLogDirsTopic::default().with_name(topic_name(&topic.name)).with_partitions(partitions));
    }
    let mut result = DescribeLogDirsResult::default()
        .with_log_dir(text(core.settings.data_dir.display().to_string()))
        .with_topics(topics);
    if call.version >= 4 {
        let space = core.disk.look();
        let bytes = |bytes: Option<u64>| bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
        result.total_bytes = bytes(space.map(|space| space.total));
        result.usable_bytes = bytes(space.map(|space| space.free));
    }
    DescribeLogDirsResponse::default().with_results(vec![result])
}
