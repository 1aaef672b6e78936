import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.UUID;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.DescribeTopicsOptions;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.quota.ClientQuotaFilter;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;

/** Apache Kafka's own client against the broker under test; prints one line of outcome for each case. */
public final class Cases {
    private static final String BOOTSTRAP = System.getenv("SF_COMPAT_BOOTSTRAP");
    private static final long FIRST_MS = 1_700_000_000_000L;
    private static final Duration WAIT = Duration.ofSeconds(20);
    private static final double KILLED_EVERY = number(System.getenv("SF_COMPAT_KILLED_EVERY"));
    private static final String RANGE = "org.apache.kafka.clients.consumer.RangeAssignor";
    private static final String ROUND_ROBIN = "org.apache.kafka.clients.consumer.RoundRobinAssignor";
    private static final String COOPERATIVE = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor";

    private interface Case {
        void run() throws Exception;
    }

    private static final class NotRun extends RuntimeException {
        NotRun(String why) {
            super(why);
        }
    }

    private static double number(String text) {
        return text == null || text.isEmpty() ? 0 : Double.parseDouble(text);
    }

    private static String need(String variable) {
        String value = System.getenv(variable);
        if (value == null || value.isEmpty()) {
            throw new NotRun(variable + " is not set: the broker is not started with it");
        }
        return value;
    }

    private static void expect(Object actual, Object wanted, String what) {
        if (!java.util.Objects.equals(actual, wanted)) {
            throw new AssertionError(what + ": " + actual + " instead of " + wanted);
        }
    }

    private static String name(String prefix) {
        return prefix + "-" + UUID.randomUUID().toString().substring(0, 8);
    }

    private static Properties settings(Object... pairs) {
        Properties all = new Properties();
        all.put("bootstrap.servers", BOOTSTRAP);
        for (int i = 0; i < pairs.length; i += 2) {
            all.put(pairs[i], pairs[i + 1]);
        }
        return all;
    }

    private static <T> T get(Future<T> future) throws Exception {
        return future.get(WAIT.toSeconds(), TimeUnit.SECONDS);
    }

    private static void refused(Future<?> future, Class<?> error) throws Exception {
        try {
            get(future);
        } catch (ExecutionException failed) {
            expect(failed.getCause().getClass(), error, "error");
            return;
        }
        throw new AssertionError("the call must fail with " + error.getSimpleName());
    }

    private static String topic(int partitions, Map<String, String> configs) throws Exception {
        String title = name("topic");
        try (Admin admin = Admin.create(settings())) {
            get(admin.createTopics(List.of(new NewTopic(title, partitions, (short) 1).configs(configs))).all());
        }
        return title;
    }

    private static KafkaProducer<String, String> producer(Properties more) {
        more.put("key.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        more.put("value.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        return new KafkaProducer<>(more);
    }

    private static KafkaConsumer<String, String> consumer(Properties more) {
        more.put("key.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        more.put("value.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        more.putIfAbsent("auto.offset.reset", "earliest");
        more.putIfAbsent("enable.auto.commit", "false");
        return new KafkaConsumer<>(more);
    }

    private static void produce(String title, int count, int partitions, Object... pairs) throws Exception {
        try (KafkaProducer<String, String> client = producer(settings(pairs))) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int i = 0; i < count; i++) {
                ProducerRecord<String, String> record = new ProducerRecord<>(
                        title, i % partitions, FIRST_MS + i, Integer.toString(i), "v" + i + " " + "x".repeat(80));
                record.headers().add(new RecordHeader("h", "1".getBytes(StandardCharsets.UTF_8)));
                record.headers().add(new RecordHeader("h", "2".getBytes(StandardCharsets.UTF_8)));
                sent.add(client.send(record));
            }
            client.flush();
            for (Future<RecordMetadata> one : sent) {
                get(one);
            }
        }
    }

    private static List<ConsumerRecord<String, String>> read(String title, int count, int partitions, Object... pairs) {
        List<ConsumerRecord<String, String>> found = new ArrayList<>();
        try (KafkaConsumer<String, String> client = consumer(settings(pairs))) {
            client.assign(IntStream.range(0, partitions).mapToObj(p -> new TopicPartition(title, p)).collect(Collectors.toList()));
            client.seekToBeginning(client.assignment());
            long until = System.nanoTime() + WAIT.toNanos();
            while (found.size() < count && System.nanoTime() < until) {
                client.poll(Duration.ofMillis(200)).forEach(found::add);
            }
        }
        expect(found.size(), count, "records read");
        return found;
    }

    private static List<Integer> keys(List<ConsumerRecord<String, String>> records, int partition) {
        return records.stream().filter(r -> r.partition() == partition).map(r -> Integer.parseInt(r.key())).collect(Collectors.toList());
    }

    private static List<Integer> sequence(int from, int to, int step) {
        List<Integer> all = new ArrayList<>();
        for (int i = from; i < to; i += step) {
            all.add(i);
        }
        return all;
    }

    private static void produceConsume() throws Exception {
        String title = topic(3, Map.of());
        produce(title, 1500, 3);
        List<ConsumerRecord<String, String>> records = read(title, 1500, 3);
        for (int partition = 0; partition < 3; partition++) {
            expect(keys(records, partition), sequence(partition, 1500, 3), "keys in order");
        }
        expect(records.get(0).headers().toArray().length, 2, "headers");
        expect(records.stream().allMatch(r -> r.timestamp() == FIRST_MS + Integer.parseInt(r.key())), true, "timestamps");
    }

    private static void compression(String codec) throws Exception {
        String title = topic(1, Map.of());
        produce(title, 1000, 1, "compression.type", codec, "linger.ms", "5");
        expect(keys(read(title, 1000, 1), 0), sequence(0, 1000, 1), "keys in order");
    }

    private static void acks() throws Exception {
        String title = topic(1, Map.of());
        produce(title, 100, 1, "acks", "0", "enable.idempotence", "false");
        produce(title, 100, 1, "acks", "1", "enable.idempotence", "false");
        read(title, 200, 1);
    }

    private static void idempotence() throws Exception {
        String title = topic(2, Map.of());
        produce(title, 20000, 2, "enable.idempotence", "true", "batch.size", "4096");
        List<ConsumerRecord<String, String>> records = read(title, 20000, 2);
        for (int partition = 0; partition < 2; partition++) {
            expect(keys(records, partition), sequence(partition, 20000, 2), "keys in order");
        }
    }

    /** A member of a group on a thread of its own. */
    private static final class Member implements ConsumerRebalanceListener {
        final Set<Integer> assigned = Collections.synchronizedSet(new HashSet<>());
        final List<ConsumerRecord<String, String>> seen = Collections.synchronizedList(new ArrayList<>());
        volatile int revocations;
        volatile boolean stopped;
        volatile boolean commits;
        volatile Exception failed;
        private final KafkaConsumer<String, String> client;
        private final Thread thread = new Thread(this::work);

        Member(String group, String title, Object... pairs) {
            Properties all = settings(pairs);
            all.put("group.id", group);
            if (!"consumer".equals(all.get("group.protocol"))) {
                all.put("session.timeout.ms", "10000");
                all.put("heartbeat.interval.ms", "500");
            }
            client = consumer(all);
            client.subscribe(List.of(title), this);
            thread.setDaemon(true);
            thread.start();
        }

        private void work() {
            try {
                while (!stopped) {
                    client.poll(Duration.ofMillis(100)).forEach(seen::add);
                    if (commits) {
                        try {
                            client.commitSync(Duration.ofSeconds(2));
                        } catch (KafkaException again) {
                            // it goes again with the next one
                        }
                    }
                }
                client.close();
            } catch (Exception error) {
                failed = error;
            }
        }

        void close() throws InterruptedException {
            stopped = true;
            thread.join(WAIT.toMillis());
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> parts) {
            parts.forEach(part -> assigned.add(part.partition()));
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> parts) {
            revocations++;
            parts.forEach(part -> assigned.remove(part.partition()));
        }
    }

    private static void until(String what, int seconds, BooleanSupplier look) throws InterruptedException {
        long end = System.nanoTime() + Duration.ofSeconds(seconds).toNanos();
        while (!look.getAsBoolean()) {
            if (System.nanoTime() > end) {
                throw new AssertionError(what + ": not within " + seconds + " s");
            }
            Thread.sleep(50);
        }
    }

    private static void untilShared(List<Member> members, Integer... counts) throws InterruptedException {
        until("shared as " + List.of(counts), 30, () -> {
            List<Integer> shares = new ArrayList<>();
            Set<Integer> owned = new HashSet<>();
            for (Member member : members) {
                Set<Integer> owns = Set.copyOf(member.assigned);
                shares.add(owns.size());
                owned.addAll(owns);
            }
            Collections.sort(shares);
            return shares.equals(List.of(counts)) && owned.size() == shares.stream().mapToInt(Integer::intValue).sum();
        });
    }

    private static void rebalance(Object... pairs) throws Exception {
        String title = topic(6, Map.of());
        String group = name("group");
        Member first = new Member(group, title, pairs);
        untilShared(List.of(first), 6);
        Member second = new Member(group, title, pairs);
        untilShared(List.of(first, second), 3, 3);
        first.close();
        untilShared(List.of(second), 6);
        second.close();
    }

    private static void staticMembers() throws Exception {
        String title = topic(4, Map.of());
        String group = name("group");
        Member one = new Member(group, title, "group.instance.id", "one");
        Member two = new Member(group, title, "group.instance.id", "two");
        untilShared(List.of(one, two), 2, 2);
        Set<Integer> had = Set.copyOf(two.assigned);
        int revocations = one.revocations;
        two.close();
        Member again = new Member(group, title, "group.instance.id", "two");
        until("the member is back", 30, () -> Set.copyOf(again.assigned).equals(had));
        expect(one.revocations, revocations, "revocations of the other member");
        one.close();
        again.close();
    }

    private static void groupCommits() throws Exception {
        String title = topic(1, Map.of());
        String group = name("group");
        TopicPartition place = new TopicPartition(title, 0);
        produce(title, 100, 1);
        try (KafkaConsumer<String, String> client = consumer(settings("group.id", group))) {
            client.assign(List.of(place));
            client.commitSync(Map.of(place, new OffsetAndMetadata(42, Optional.empty(), "some text")));
        }
        Member member = new Member(group, title);
        until("records arrive", 20, () -> !member.seen.isEmpty());
        expect(member.seen.get(0).offset(), 42L, "where reading goes on");
        member.close();
        try (KafkaConsumer<String, String> client = consumer(settings("group.id", group))) {
            expect(client.committed(Set.of(place)).get(place).metadata(), "some text", "metadata");
        }
    }

    private static void seekByTime() throws Exception {
        String title = topic(1, Map.of());
        TopicPartition place = new TopicPartition(title, 0);
        produce(title, 1000, 1);
        try (KafkaConsumer<String, String> client = consumer(settings())) {
            client.assign(List.of(place));
            expect(client.offsetsForTimes(Map.of(place, FIRST_MS + 300)).get(place).offset(), 300L, "offset at a time");
            expect(client.offsetsForTimes(Map.of(place, FIRST_MS + 9000)).get(place), null, "offset behind the end");
            client.seek(place, 300);
            expect(client.poll(WAIT).iterator().next().key(), "300", "first record there");
            expect(client.beginningOffsets(List.of(place)).get(place), 0L, "first offset");
            expect(client.endOffsets(List.of(place)).get(place), 1000L, "next offset");
        }
    }

    private static void adminTopics() throws Exception {
        String title = topic(3, Map.of());
        try (Admin admin = Admin.create(settings())) {
            expect(get(admin.listTopics().names()).contains(title), true, "listed");
            expect(get(admin.describeTopics(List.of(title)).allTopicNames()).get(title).partitions().size(), 3, "partitions");
            refused(admin.createTopics(List.of(new NewTopic(title, 1, (short) 1))).all(), TopicExistsException.class);
            get(admin.createPartitions(Map.of(title, NewPartitions.increaseTo(5))).all());
            expect(get(admin.describeTopics(List.of(title)).allTopicNames()).get(title).partitions().size(), 5, "partitions then");
            refused(admin.createPartitions(Map.of(title, NewPartitions.increaseTo(3))).all(), InvalidPartitionsException.class);
            get(admin.deleteTopics(List.of(title)).all());
            refused(admin.deleteTopics(List.of(title)).all(), UnknownTopicOrPartitionException.class);
        }
    }

    private static void adminConfigs() throws Exception {
        String title = topic(1, Map.of("retention.ms", "3600000"));
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, title);
        try (Admin admin = Admin.create(settings())) {
            AlterConfigOp change = new AlterConfigOp(new ConfigEntry("segment.ms", "7200000"), AlterConfigOp.OpType.SET);
            get(admin.incrementalAlterConfigs(Map.of(resource, List.of(change))).all());
            var described = get(admin.describeConfigs(List.of(resource)).all()).get(resource);
            expect(described.get("retention.ms").value(), "3600000", "retention.ms");
            expect(described.get("segment.ms").value(), "7200000", "segment.ms");
            expect(described.get("segment.ms").source(), ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, "where segment.ms comes from");
            AlterConfigOp back = new AlterConfigOp(new ConfigEntry("segment.ms", ""), AlterConfigOp.OpType.DELETE);
            get(admin.incrementalAlterConfigs(Map.of(resource, List.of(back))).all());
            described = get(admin.describeConfigs(List.of(resource)).all()).get(resource);
            expect(described.get("segment.ms").isDefault(), true, "segment.ms is the default again");
        }
    }

    private static void adminDeleteRecords() throws Exception {
        String title = topic(1, Map.of());
        produce(title, 100, 1);
        TopicPartition place = new TopicPartition(title, 0);
        try (Admin admin = Admin.create(settings())) {
            var deleted = admin.deleteRecords(Map.of(place, RecordsToDelete.beforeOffset(60)));
            expect(get(deleted.lowWatermarks().get(place)).lowWatermark(), 60L, "first offset");
        }
        expect(read(title, 40, 1).get(0).offset(), 60L, "first record");
    }

    private static void adminListOffsets() throws Exception {
        String title = topic(1, Map.of());
        produce(title, 100, 1);
        TopicPartition place = new TopicPartition(title, 0);
        try (Admin admin = Admin.create(settings())) {
            for (var spec : Map.of(OffsetSpec.earliest(), 0L, OffsetSpec.latest(), 100L, OffsetSpec.maxTimestamp(), 99L,
                    OffsetSpec.forTimestamp(FIRST_MS + 50), 50L).entrySet()) {
                var found = get(admin.listOffsets(Map.of(place, spec.getKey())).all()).get(place);
                expect(found.offset(), spec.getValue(), spec.getKey().getClass().getSimpleName());
            }
        }
    }

    private static void adminGroups() throws Exception {
        String title = topic(2, Map.of());
        String group = name("group");
        TopicPartition place = new TopicPartition(title, 0);
        produce(title, 10, 2);
        try (Admin admin = Admin.create(settings())) {
            Member member = new Member(group, title);
            untilShared(List.of(member), 2);
            until("records arrive", 20, () -> member.seen.size() == 10);
            member.commits = true;
            expect(get(admin.listConsumerGroups().all()).stream().anyMatch(g -> g.groupId().equals(group)), true, "listed");
            var described = get(admin.describeConsumerGroups(List.of(group)).all()).get(group);
            expect(described.members().size(), 1, "members");
            expect(described.members().iterator().next().assignment().topicPartitions().size(), 2, "assignment");
            until("a commit", 20, () -> {
                try {
                    var offsets = get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
                    return offsets.get(place) != null && offsets.get(place).offset() == 5;
                } catch (Exception error) {
                    return false;
                }
            });
            member.close();
            get(admin.alterConsumerGroupOffsets(group, Map.of(place, new OffsetAndMetadata(2))).all());
            expect(get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).get(place).offset(), 2L, "altered");
            get(admin.deleteConsumerGroupOffsets(group, Set.of(place)).all());
            get(admin.deleteConsumerGroups(List.of(group)).all());
        }
    }

    private static void adminCluster() throws Exception {
        String title = topic(1, Map.of());
        produce(title, 10, 1);
        try (Admin admin = Admin.create(settings())) {
            int node = get(admin.describeCluster().nodes()).iterator().next().id();
            expect(get(admin.describeCluster().clusterId()) != null, true, "cluster id");
            var folders = get(admin.describeLogDirs(List.of(node)).allDescriptions()).get(node);
            long size = folders.values().stream().flatMap(f -> f.replicaInfos().entrySet().stream())
                    .filter(e -> e.getKey().topic().equals(title)).mapToLong(e -> e.getValue().size()).sum();
            expect(size > 0, true, "size of the topic");
            var broker = new ConfigResource(ConfigResource.Type.BROKER, Integer.toString(node));
            expect(get(admin.describeConfigs(List.of(broker)).all()).get(broker).entries().isEmpty(), false, "settings of the broker");
        }
    }

    /** An answer to be held against another broker's, see `--against` of compat/run.sh. */
    private static void told(String question, Object answer) {
        System.out.println("told " + question + ": " + answer);
    }

    /** The same where a broker may refuse. */
    private static void told(String question, Future<?> future) throws Exception {
        try {
            told(question, get(future));
        } catch (ExecutionException error) {
            told(question, (Object) error.getCause().getClass().getSimpleName());
        }
    }

    /** What kafbat and Redpanda Console ask for their pages, in that order: cluster, topics, settings, disk, groups with lag. */
    private static void adminConsole() throws Exception {
        String title = topic(2, Map.of("retention.ms", "3600000"));
        String group = name("console");
        produce(title, 20, 2);
        TopicPartition place = new TopicPartition(title, 0);
        try (KafkaConsumer<String, String> reader = consumer(settings("group.id", group))) {
            reader.commitSync(Map.of(place, new OffsetAndMetadata(4)));
        }
        try (Admin admin = Admin.create(settings())) {
            var cluster = admin.describeCluster();
            expect(get(cluster.nodes()).size(), 1, "nodes");
            int node = get(cluster.controller()).id();
            expect(get(admin.listTopics().names()).contains("__consumer_offsets"), false, "internal topics are asked for apart");
            var listed = get(admin.listTopics(new ListTopicsOptions().listInternal(true)).listings());
            expect(listed.stream().anyMatch(t -> t.name().equals("__consumer_offsets") && t.isInternal()), true, "and then listed");
            var described = get(admin.describeTopics(List.of(title),
                    new DescribeTopicsOptions().includeAuthorizedOperations(true)).allTopicNames()).get(title);
            expect(described.partitions().stream().allMatch(p -> p.leader().id() == node && p.isr().size() == 1), true, "leaders");
            told("operations on a topic", described.authorizedOperations() == null ? null : new TreeSet<>(described.authorizedOperations()));

            var topic = new ConfigResource(ConfigResource.Type.TOPIC, title);
            var broker = new ConfigResource(ConfigResource.Type.BROKER, Integer.toString(node));
            var options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
            var configs = get(admin.describeConfigs(List.of(topic, broker), options).all());
            var retention = configs.get(topic).get("retention.ms");
            expect(retention.value(), "3600000", "a setting");
            expect(retention.source(), ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, "where it comes from");
            expect(retention.type(), ConfigEntry.ConfigType.LONG, "its type");
            expect(retention.synonyms().isEmpty(), false, "where it could come from");
            expect(retention.documentation().isEmpty(), false, "what it does");
            configs.get(topic).entries().stream().sorted(Comparator.comparing(ConfigEntry::name)).forEach(e -> told("setting " + e.name(), e.type()));
            told("settings of the broker that can be changed",
                    configs.get(broker).entries().stream().filter(e -> !e.isReadOnly()).count() > 0);

            var folders = get(admin.describeLogDirs(List.of(node)).allDescriptions()).get(node);
            expect(folders.size(), 1, "folders");
            var folder = folders.values().iterator().next();
            expect(folder.error() == null && folder.replicaInfos().get(place).size() > 0, true, "bytes of a partition");
            long total = folder.totalBytes().orElse(-1), usable = folder.usableBytes().orElse(-1);
            expect(usable > 0 && usable <= total, true, "room: " + usable + " of " + total);

            var latest = get(admin.listOffsets(Map.of(place, OffsetSpec.latest())).all()).get(place).offset();
            var committed = get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata()).get(place).offset();
            expect(latest - committed, 6L, "lag");
            var groups = get(admin.listConsumerGroups().all());
            expect(groups.stream().anyMatch(g -> g.groupId().equals(group) && g.isSimpleConsumerGroup()), true, "a group without members");
            var one = get(admin.describeConsumerGroups(List.of(group)).all()).get(group);
            expect(one.state().toString() + one.members().size(), "Empty0", "its state and members");
            told("assignor of a group without members", "'" + one.partitionAssignor() + "'");

            var deleted = admin.deleteRecords(Map.of(place, RecordsToDelete.beforeOffset(5)));
            expect(get(deleted.lowWatermarks().get(place)).lowWatermark(), 5L, "first offset");
            expect(get(admin.listOffsets(Map.of(place, OffsetSpec.earliest())).all()).get(place).offset(), 5L, "and it is told");
            told("deleting beyond the end", admin.deleteRecords(Map.of(place, RecordsToDelete.beforeOffset(99))).all());

            told("producers", get(admin.describeProducers(List.of(place)).all()).get(place).activeProducers().size());
            told("reassignments", admin.listPartitionReassignments().reassignments());
            told("quorum", admin.describeMetadataQuorum().quorumInfo().thenApply(q -> q.voters().size()));
            told("features", get(admin.describeFeatures().featureMetadata()).finalizedFeatures().keySet().stream().sorted().toList());
            told("delegation tokens", admin.describeDelegationToken().delegationTokens());
            told("quotas", admin.describeClientQuotas(ClientQuotaFilter.all()).entities());
            told("three copies", admin.createTopics(List.of(new NewTopic(name("many"), 1, (short) 3))).all());
            told("a setting that is unknown",
                    admin.createTopics(List.of(new NewTopic(name("odd"), 1, (short) 1).configs(Map.of("no.such", "1")))).all());
            told("deleting a group that is not there", admin.deleteConsumerGroups(List.of(name("none"))).all());
            told("an election", admin.electLeaders(ElectionType.PREFERRED, Set.of(place)).partitions()
                    .thenApply(m -> m.get(place).map(e -> e.getClass().getSimpleName()).orElse("done")));
        }
    }

    private static void adminAcls() throws Exception {
        String title = topic(1, Map.of());
        AclBinding binding = new AclBinding(
                new ResourcePattern(ResourceType.TOPIC, title, PatternType.LITERAL),
                new AccessControlEntry("User:somebody", "*", AclOperation.READ, AclPermissionType.ALLOW));
        try (Admin admin = Admin.create(settings())) {
            get(admin.createAcls(List.of(binding)).all());
            expect(List.copyOf(get(admin.describeAcls(binding.toFilter()).values())), List.of(binding), "acls");
            get(admin.deleteAcls(List.of(binding.toFilter())).all());
            expect(get(admin.describeAcls(binding.toFilter()).values()).isEmpty(), true, "acls left");
        }
    }

    private static void adminScramUsers() throws Exception {
        String user = name("user");
        try (Admin admin = Admin.create(settings())) {
            var info = new ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096);
            get(admin.alterUserScramCredentials(List.of(new UserScramCredentialUpsertion(user, info, "secret"))).all());
            expect(get(admin.describeUserScramCredentials(List.of(user)).all()).get(user).credentialInfos(), List.of(info), "credentials");
        }
    }

    private static void transactions() throws Exception {
        String title = topic(1, Map.of());
        try (KafkaProducer<String, String> client = producer(settings("transactional.id", name("tx"), "max.block.ms", "15000"))) {
            client.initTransactions();
            for (boolean commit : new boolean[] {false, true}) {
                client.beginTransaction();
                for (int i = 0; i < 10; i++) {
                    client.send(new ProducerRecord<>(title, commit ? "kept" : "dropped"));
                }
                if (commit) {
                    client.commitTransaction();
                } else {
                    client.flush();
                    client.abortTransaction();
                }
            }
        }
        for (ConsumerRecord<String, String> record : read(title, 10, 1, "isolation.level", "read_committed")) {
            expect(record.value(), "kept", "record");
        }
    }

    private static void transactionsWithOffsets() throws Exception {
        String source = topic(1, Map.of());
        String target = topic(1, Map.of());
        String group = name("group");
        TopicPartition place = new TopicPartition(source, 0);
        produce(source, 10, 1);
        try (KafkaProducer<String, String> client = producer(settings("transactional.id", name("tx"), "max.block.ms", "15000"));
                KafkaConsumer<String, String> reader = consumer(settings("group.id", group))) {
            reader.subscribe(List.of(source));
            client.initTransactions();
            client.beginTransaction();
            int count = 0;
            long until = System.nanoTime() + WAIT.toNanos();
            while (count < 10 && System.nanoTime() < until) {
                for (ConsumerRecord<String, String> record : reader.poll(Duration.ofMillis(200))) {
                    client.send(new ProducerRecord<>(target, record.value()));
                    count++;
                }
            }
            client.sendOffsetsToTransaction(Map.of(place, new OffsetAndMetadata(count)), reader.groupMetadata());
            client.commitTransaction();
            expect(reader.committed(Set.of(place)).get(place).offset(), 10L, "committed offset");
        }
        read(target, 10, 1, "isolation.level", "read_committed");
    }

    private static void secured(Object... pairs) throws Exception {
        String title = topic(1, Map.of());
        List<Object> all = new ArrayList<>(List.of(pairs));
        all.addAll(List.of("ssl.truststore.type", "PEM", "ssl.truststore.location", need("SF_COMPAT_CA_FILE")));
        produce(title, 10, 1, all.toArray());
        read(title, 10, 1, all.toArray());
    }

    private static void tls() throws Exception {
        secured("bootstrap.servers", need("SF_COMPAT_TLS_BOOTSTRAP"), "security.protocol", "SSL");
    }

    private static void sasl(String mechanism, String module) throws Exception {
        String jaas = String.format("org.apache.kafka.common.security.%s required username=\"%s\" password=\"%s\";",
                module, need("SF_COMPAT_USER"), need("SF_COMPAT_PASSWORD"));
        secured("bootstrap.servers", need("SF_COMPAT_SASL_BOOTSTRAP"), "security.protocol", "SASL_SSL",
                "sasl.mechanism", mechanism, "sasl.jaas.config", jaas);
    }

    /** The broker dies again and again while one producer writes and a group with a static member reads. */
    private static void killedGroups() throws Exception {
        int partitions = 6;
        String title = topic(partitions, Map.of());
        String group = name("group");
        List<Member> members = new ArrayList<>(List.of(
                new Member(group, title), new Member(group, title), new Member(group, title, "group.instance.id", "static")));
        List<Member> all = new ArrayList<>(members);
        members.forEach(member -> member.commits = true);
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        double lasts = KILLED_EVERY * 3.5;
        long begin = System.nanoTime();
        boolean replaced = false;
        try (KafkaProducer<String, String> client = producer(settings("delivery.timeout.ms", "600000", "linger.ms", "5"))) {
            while (System.nanoTime() - begin < lasts * 1e9) {
                for (int i = 0; i < 20; i++) {
                    int number = sent.size();
                    sent.add(client.send(new ProducerRecord<>(title, number % partitions, Integer.toString(number), "v")));
                }
                Thread.sleep(100);
                if (!replaced && System.nanoTime() - begin > lasts * 5e8) {
                    members.remove(0).close();
                    Member other = new Member(group, title);
                    other.commits = true;
                    members.add(other);
                    all.add(other);
                    replaced = true;
                }
            }
            client.flush();
            for (Future<RecordMetadata> one : sent) {
                get(one);
            }
        }
        until("the group has seen every record", 60, () -> {
            Set<String> distinct = new HashSet<>();
            for (Member member : all) {
                synchronized (member.seen) {
                    member.seen.forEach(record -> distinct.add(record.key()));
                }
            }
            return distinct.size() == sent.size();
        });
        for (Member member : members) {
            expect(member.failed, null, "a member's failure");
            member.close();
        }
        List<ConsumerRecord<String, String>> records = read(title, sent.size(), partitions);
        for (int partition = 0; partition < partitions; partition++) {
            expect(keys(records, partition), sequence(partition, sent.size(), partitions), "each record once and in order");
        }
    }

    private static String outcome(String title, Case body) {
        CompletableFuture<Void> done = new CompletableFuture<>();
        Thread thread = new Thread(() -> {
            try {
                body.run();
                done.complete(null);
            } catch (Throwable error) {
                done.completeExceptionally(error);
            }
        });
        thread.setDaemon(true);
        thread.start();
        try {
            done.get((long) (60 + 4 * KILLED_EVERY), TimeUnit.SECONDS);
            return "pass " + title;
        } catch (ExecutionException failed) {
            Throwable error = failed.getCause();
            if (error instanceof NotRun) {
                return "not run: " + title + " (" + error.getMessage() + ")";
            }
            error.printStackTrace();
            return ("fail " + title + ": " + error).replace('\n', ' ');
        } catch (Exception error) {
            return "fail " + title + ": it takes too long";
        }
    }

    public static void main(String[] arguments) {
        String major = arguments[0];
        Map<String, Case> cases = new java.util.LinkedHashMap<>();
        cases.put("produce-consume", Cases::produceConsume);
        for (String codec : List.of("gzip", "snappy", "lz4", "zstd")) {
            cases.put("compression-" + codec, () -> compression(codec));
        }
        cases.put("acks-none-and-one", Cases::acks);
        cases.put("idempotence", Cases::idempotence);
        cases.put("group-rebalance", () -> rebalance("partition.assignment.strategy", RANGE));
        cases.put("group-rebalance-round-robin", () -> rebalance("partition.assignment.strategy", ROUND_ROBIN));
        cases.put("group-rebalance-cooperative", () -> rebalance("partition.assignment.strategy", COOPERATIVE));
        if (!major.equals("3")) {
            cases.put("group-next-generation", () -> rebalance("group.protocol", "consumer"));
        }
        cases.put("group-static-members", Cases::staticMembers);
        cases.put("group-commits", Cases::groupCommits);
        cases.put("seek-by-time", Cases::seekByTime);
        cases.put("admin-topics", Cases::adminTopics);
        cases.put("admin-configs", Cases::adminConfigs);
        cases.put("admin-delete-records", Cases::adminDeleteRecords);
        cases.put("admin-list-offsets", Cases::adminListOffsets);
        cases.put("admin-groups", Cases::adminGroups);
        cases.put("admin-cluster", Cases::adminCluster);
        cases.put("admin-console", Cases::adminConsole);
        cases.put("admin-acls", Cases::adminAcls);
        cases.put("admin-scram-users", Cases::adminScramUsers);
        cases.put("transactions", Cases::transactions);
        cases.put("transactions-with-offsets", Cases::transactionsWithOffsets);
        cases.put("tls", Cases::tls);
        cases.put("sasl-plain", () -> sasl("PLAIN", "plain.PlainLoginModule"));
        cases.put("sasl-scram-256", () -> sasl("SCRAM-SHA-256", "scram.ScramLoginModule"));
        cases.put("sasl-scram-512", () -> sasl("SCRAM-SHA-512", "scram.ScramLoginModule"));
        cases.put("groups", Cases::killedGroups);
        String wanted = Optional.ofNullable(System.getenv("SF_COMPAT_CASES")).orElse("");
        for (Map.Entry<String, Case> one : cases.entrySet()) {
            boolean killed = one.getKey().equals("groups");
            String title = (killed ? "killed-" : "") + "client-" + major + "-" + one.getKey();
            if (killed != KILLED_EVERY > 0 || !wanted.isEmpty() && !List.of(wanted.split(",")).contains(title)) {
                continue;
            }
            System.out.println(outcome(title, one.getValue()));
            System.out.flush();
        }
        System.exit(0);
    }
}
