"""create_topic.py BOOTSTRAP TOPIC PARTITIONS"""

import sys

from confluent_kafka.admin import AdminClient, NewTopic

bootstrap, topic, partitions = sys.argv[1:]
client = AdminClient({"bootstrap.servers": bootstrap})
client.create_topics([NewTopic(topic, int(partitions), 1)])[topic].result(20)
