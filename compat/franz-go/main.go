// franz-go against the broker under test; prints one line of outcome for each case.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

const (
	wait    = 20 * time.Second
	caseMax = 60 * time.Second
	firstMs = 1_700_000_000_000
)

var (
	bootstrap   = os.Getenv("SF_COMPAT_BOOTSTRAP")
	killedEvery = killedSeconds()
	names       int
)

type notRun struct{ why string }

func killedSeconds() time.Duration {
	seconds, _ := strconv.ParseFloat(os.Getenv("SF_COMPAT_KILLED_EVERY"), 64)
	return time.Duration(seconds * float64(time.Second))
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func expect(actual, wanted any, what string) {
	if !reflect.DeepEqual(actual, wanted) {
		panic(fmt.Errorf("%s: %v instead of %v", what, actual, wanted))
	}
}

func need(variable string) string {
	value := os.Getenv(variable)
	if value == "" {
		panic(notRun{variable + " is not set: the broker is not started with it"})
	}
	return value
}

func name(prefix string) string {
	names++
	return fmt.Sprintf("%s-franz-%d", prefix, names)
}

func client(options ...kgo.Opt) *kgo.Client {
	made, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(bootstrap)}, options...)...)
	check(err)
	return made
}

func admin() *kadm.Client { return kadm.NewClient(client()) }

func topic(ctx context.Context, partitions int32, configs map[string]*string) string {
	title := name("topic")
	adm := admin()
	defer adm.Close()
	_, err := adm.CreateTopic(ctx, partitions, 1, configs, title)
	check(err)
	return title
}

func produce(ctx context.Context, title string, count, partitions int, options ...kgo.Opt) {
	cl := client(append(options, kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	defer cl.Close()
	records := make([]*kgo.Record, count)
	for i := range records {
		records[i] = &kgo.Record{
			Topic: title, Partition: int32(i % partitions), Key: []byte(strconv.Itoa(i)),
			Value:     []byte(fmt.Sprintf("v%d %s", i, strings.Repeat("x", 80))),
			Headers:   []kgo.RecordHeader{{Key: "h", Value: []byte("1")}, {Key: "h", Value: []byte("2")}},
			Timestamp: time.UnixMilli(firstMs + int64(i)),
		}
	}
	check(cl.ProduceSync(ctx, records...).FirstErr())
}

func read(ctx context.Context, title string, count int, options ...kgo.Opt) []*kgo.Record {
	cl := client(append([]kgo.Opt{kgo.ConsumeTopics(title), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}, options...)...)
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var found []*kgo.Record
	for len(found) < count && ctx.Err() == nil {
		fetches := cl.PollFetches(ctx)
		found = append(found, fetches.Records()...)
	}
	expect(len(found), count, "records read")
	return found
}

func keys(records []*kgo.Record, partition int32) []int {
	var found []int
	for _, record := range records {
		if record.Partition == partition {
			key, err := strconv.Atoi(string(record.Key))
			check(err)
			found = append(found, key)
		}
	}
	return found
}

func sequence(from, to, step int) []int {
	var all []int
	for i := from; i < to; i += step {
		all = append(all, i)
	}
	return all
}

func produceConsume(ctx context.Context) {
	title := topic(ctx, 3, nil)
	produce(ctx, title, 1500, 3)
	records := read(ctx, title, 1500)
	for partition := range 3 {
		expect(keys(records, int32(partition)), sequence(partition, 1500, 3), "keys in order")
	}
	expect(len(records[0].Headers), 2, "headers")
	expect(records[0].Timestamp.UnixMilli()-firstMs < 1500, true, "timestamp")
}

func compression(codec kgo.CompressionCodec) func(context.Context) {
	return func(ctx context.Context) {
		title := topic(ctx, 1, nil)
		produce(ctx, title, 1000, 1, kgo.ProducerBatchCompression(codec))
		expect(keys(read(ctx, title, 1000), 0), sequence(0, 1000, 1), "keys in order")
	}
}

func acks(ctx context.Context) {
	title := topic(ctx, 1, nil)
	produce(ctx, title, 100, 1, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	produce(ctx, title, 100, 1, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	read(ctx, title, 200)
}

func idempotence(ctx context.Context) {
	title := topic(ctx, 2, nil)
	produce(ctx, title, 20000, 2, kgo.ProducerBatchMaxBytes(4096))
	records := read(ctx, title, 20000)
	for partition := range 2 {
		expect(keys(records, int32(partition)), sequence(partition, 20000, 2), "keys in order")
	}
}

// member of a group, with what was assigned to it and how often something was taken away.
type member struct {
	sync.Mutex
	cl          *kgo.Client
	assigned    map[int32]bool
	revocations int
	seen        []*kgo.Record
	done        chan struct{}
}

func join(group, title string, options ...kgo.Opt) *member {
	m := &member{assigned: map[int32]bool{}, done: make(chan struct{})}
	take := func(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
		m.Lock()
		defer m.Unlock()
		for _, partition := range parts[title] {
			m.assigned[partition] = true
		}
	}
	give := func(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
		m.Lock()
		defer m.Unlock()
		if len(parts[title]) > 0 {
			m.revocations++
		}
		for _, partition := range parts[title] {
			delete(m.assigned, partition)
		}
	}
	m.cl = client(append([]kgo.Opt{
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(title), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.SessionTimeout(10 * time.Second), kgo.HeartbeatInterval(500 * time.Millisecond),
		kgo.OnPartitionsAssigned(take), kgo.OnPartitionsRevoked(give), kgo.OnPartitionsLost(give),
	}, options...)...)
	go func() {
		defer close(m.done)
		for {
			fetches := m.cl.PollFetches(context.Background())
			if fetches.IsClientClosed() {
				return
			}
			m.Lock()
			m.seen = append(m.seen, fetches.Records()...)
			m.Unlock()
		}
	}()
	return m
}

func (m *member) close() {
	m.cl.Close()
	<-m.done
}

func (m *member) owns() []int32 {
	m.Lock()
	defer m.Unlock()
	var owned []int32
	for partition := range m.assigned {
		owned = append(owned, partition)
	}
	slices.Sort(owned)
	return owned
}

func until(what string, atMost time.Duration, look func() bool) {
	for end := time.Now().Add(atMost); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if look() {
			return
		}
	}
	panic(errors.New(what + ": not in time"))
}

func untilShared(members []*member, counts ...int) {
	until(fmt.Sprintf("shared as %v", counts), 30*time.Second, func() bool {
		var shares []int
		owned := map[int32]int{}
		for _, m := range members {
			owns := m.owns()
			shares = append(shares, len(owns))
			for _, partition := range owns {
				owned[partition]++
			}
		}
		slices.Sort(shares)
		for _, owners := range owned {
			if owners > 1 {
				return false
			}
		}
		return slices.Equal(shares, counts)
	})
}

func rebalance(options ...kgo.Opt) func(context.Context) {
	return func(ctx context.Context) {
		title, group := topic(ctx, 6, nil), name("group")
		first := join(group, title, options...)
		untilShared([]*member{first}, 6)
		second := join(group, title, options...)
		untilShared([]*member{first, second}, 3, 3)
		first.close()
		untilShared([]*member{second}, 6)
		second.close()
	}
}

func staticMembers(ctx context.Context) {
	title, group := topic(ctx, 4, nil), name("group")
	one, two := join(group, title, kgo.InstanceID("one")), join(group, title, kgo.InstanceID("two"))
	untilShared([]*member{one, two}, 2, 2)
	had, revocations := two.owns(), one.revocations
	two.close()
	two = join(group, title, kgo.InstanceID("two"))
	until("the member is back", 30*time.Second, func() bool { return slices.Equal(two.owns(), had) })
	expect(one.revocations, revocations, "revocations of the other member")
	one.close()
	two.close()
	adm := admin()
	defer adm.Close()
	// static members stay until somebody removes them by name
	left, err := adm.LeaveGroup(ctx, kadm.LeaveGroup(group).InstanceIDs("one", "two"))
	check(err)
	check(left.Error())
}

func groupCommits(ctx context.Context) {
	title, group := topic(ctx, 1, nil), name("group")
	produce(ctx, title, 100, 1)
	adm := admin()
	defer adm.Close()
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: title, Partition: 0, At: 42, LeaderEpoch: -1, Metadata: "some text"})
	check(adm.CommitAllOffsets(ctx, group, offsets))
	m := join(group, title, kgo.DisableAutoCommit())
	until("records arrive", wait, func() bool { m.Lock(); defer m.Unlock(); return len(m.seen) > 0 })
	expect(m.seen[0].Offset, int64(42), "where reading goes on")
	m.close()
	fetched, err := adm.FetchOffsets(ctx, group)
	check(err)
	at, _ := fetched.Lookup(title, 0)
	expect(at.Metadata, "some text", "metadata")
}

func seekByTime(ctx context.Context) {
	title := topic(ctx, 1, nil)
	produce(ctx, title, 1000, 1)
	adm := admin()
	defer adm.Close()
	listed, err := adm.ListOffsetsAfterMilli(ctx, firstMs+300, title)
	check(err)
	at, _ := listed.Lookup(title, 0)
	expect(at.Offset, int64(300), "offset at a time")
	records := read(ctx, title, 700, kgo.ConsumeResetOffset(kgo.NewOffset().AfterMilli(firstMs+300)))
	expect(keys(records, 0), sequence(300, 1000, 1), "records from there")
	most, err := adm.ListMaxTimestampOffsets(ctx, title)
	check(err)
	at, _ = most.Lookup(title, 0)
	expect(at.Offset, int64(999), "offset of the highest time")
}

func adminTopics(ctx context.Context) {
	adm := admin()
	defer adm.Close()
	title := topic(ctx, 3, nil)
	details, err := adm.ListTopics(ctx, title)
	check(err)
	expect(len(details[title].Partitions), 3, "partitions")
	_, err = adm.CreateTopic(ctx, 1, 1, nil, title)
	expect(errors.Is(err, kerr.TopicAlreadyExists), true, "a second topic of that name is refused")
	added, err := adm.CreatePartitions(ctx, 2, title)
	check(err)
	check(added.Error())
	details, err = adm.ListTopics(ctx, title)
	check(err)
	expect(len(details[title].Partitions), 5, "partitions after two more")
	_, err = adm.DeleteTopic(ctx, title)
	check(err)
	_, err = adm.DeleteTopic(ctx, title)
	expect(errors.Is(err, kerr.UnknownTopicOrPartition), true, "the topic is gone")
}

func adminConfigs(ctx context.Context) {
	adm := admin()
	defer adm.Close()
	hour, twice := "3600000", "7200000"
	title := topic(ctx, 1, map[string]*string{"retention.ms": &hour})
	altered, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "segment.ms", Value: &twice}}, title)
	check(err)
	check(altered[0].Err)
	described, err := adm.DescribeTopicConfigs(ctx, title)
	check(err)
	for _, config := range described[0].Configs {
		switch config.Key {
		case "retention.ms":
			expect(config.MaybeValue(), hour, config.Key)
		case "segment.ms":
			expect(config.MaybeValue(), twice, config.Key)
		}
	}
	_, err = adm.DescribeBrokerConfigs(ctx)
	check(err)
}

func adminDeleteRecords(ctx context.Context) {
	adm := admin()
	defer adm.Close()
	title := topic(ctx, 1, nil)
	produce(ctx, title, 100, 1)
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: title, Partition: 0, At: 60})
	_, err := adm.DeleteRecords(ctx, offsets)
	check(err)
	expect(read(ctx, title, 40)[0].Offset, int64(60), "first record")
}

func adminGroups(ctx context.Context) {
	adm := admin()
	defer adm.Close()
	title, group := topic(ctx, 2, nil), name("group")
	produce(ctx, title, 10, 2)
	m := join(group, title)
	untilShared([]*member{m}, 2)
	listed, err := adm.ListGroups(ctx)
	check(err)
	_, there := listed[group]
	expect(there, true, "listed")
	described, err := adm.DescribeGroups(ctx, group)
	check(err)
	expect(described[group].State, "Stable", "state")
	until("records arrive", wait, func() bool { m.Lock(); defer m.Unlock(); return len(m.seen) == 10 })
	check(m.cl.CommitUncommittedOffsets(ctx))
	lag, err := adm.Lag(ctx, group)
	check(err)
	expect(lag[group].Lag.Total(), int64(0), "lag")
	m.close()
	deleted, err := adm.DeleteOffsets(ctx, group, kadm.TopicsSet{title: {0: {}}})
	check(err)
	check(deleted.Error())
	_, err = adm.DeleteGroup(ctx, group)
	check(err)
}

func adminCluster(ctx context.Context) {
	adm := admin()
	defer adm.Close()
	metadata, err := adm.BrokerMetadata(ctx)
	check(err)
	expect(len(metadata.Brokers), 1, "brokers")
	versions, err := adm.ApiVersions(ctx)
	check(err)
	expect(len(versions), 1, "brokers that tell their versions")
	title := topic(ctx, 1, nil)
	produce(ctx, title, 10, 1)
	dirs, err := adm.DescribeAllLogDirs(ctx, kadm.TopicsSet{title: {0: {}}})
	check(err)
	for _, ofBroker := range dirs {
		check(ofBroker.Error())
	}
}

func transactions(ctx context.Context) {
	title := topic(ctx, 1, nil)
	cl := client(kgo.TransactionalID(name("tx")), kgo.DefaultProduceTopic(title))
	defer cl.Close()
	for _, commit := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
		check(cl.BeginTransaction())
		for i := range 10 {
			check(cl.ProduceSync(ctx, kgo.StringRecord(fmt.Sprintf("%v%d", commit == kgo.TryCommit, i))).FirstErr())
		}
		check(cl.EndTransaction(ctx, commit))
	}
	for _, record := range read(ctx, title, 10, kgo.FetchIsolationLevel(kgo.ReadCommitted())) {
		expect(strings.HasPrefix(string(record.Value), "true"), true, "a record of the committed transaction")
	}
}

func adminACLs(ctx context.Context) {
	adm := admin()
	defer adm.Close()
	title := topic(ctx, 1, nil)
	rules := kadm.NewACLs().Topics(title).Allow("User:somebody").AllowHosts("*").Operations(kadm.OpRead).ResourcePatternType(kadm.ACLPatternLiteral)
	_, err := adm.CreateACLs(ctx, rules)
	check(err)
	described, err := adm.DescribeACLs(ctx, rules)
	check(err)
	expect(len(described[0].Described), 1, "acls")
	_, err = adm.DeleteACLs(ctx, rules)
	check(err)
}

func secured(options ...kgo.Opt) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	title := topic(ctx, 1, nil)
	ca, err := os.ReadFile(need("SF_COMPAT_CA_FILE"))
	check(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	options = append(options, kgo.DialTLSConfig(&tls.Config{RootCAs: pool}))
	produce(ctx, title, 10, 1, options...)
	read(ctx, title, 10, options...)
}

func withTLS(context.Context) { secured(kgo.SeedBrokers(need("SF_COMPAT_TLS_BOOTSTRAP"))) }

func withSASL(mechanism func(user, password string) sasl.Mechanism) func(context.Context) {
	return func(context.Context) {
		made := mechanism(need("SF_COMPAT_USER"), need("SF_COMPAT_PASSWORD"))
		secured(kgo.SeedBrokers(need("SF_COMPAT_SASL_BOOTSTRAP")), kgo.SASL(made))
	}
}

// killedGroups: the broker dies again and again while one producer writes and a group with a static member reads.
func killedGroups(ctx context.Context) {
	const partitions = 6
	title, group := topic(ctx, partitions, nil), name("group")
	writer := client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic(title))
	members := []*member{join(group, title), join(group, title), join(group, title, kgo.InstanceID("static"))}
	all := slices.Clone(members)
	var failed error
	var lock sync.Mutex
	sent := 0
	begin := time.Now()
	lasts := killedEvery * 7 / 2
	for replaced := false; time.Since(begin) < lasts; time.Sleep(100 * time.Millisecond) {
		for range 20 {
			record := &kgo.Record{Partition: int32(sent % partitions), Key: []byte(strconv.Itoa(sent))}
			writer.Produce(ctx, record, func(_ *kgo.Record, err error) {
				if err != nil {
					lock.Lock()
					failed = err
					lock.Unlock()
				}
			})
			sent++
		}
		if !replaced && time.Since(begin) > lasts/2 {
			members[0].close()
			members[0] = join(group, title)
			all = append(all, members[0])
			replaced = true
		}
	}
	check(writer.Flush(ctx))
	writer.Close()
	check(failed)
	until("the group has seen every record", time.Minute, func() bool {
		distinct := map[string]bool{}
		for _, m := range all {
			m.Lock()
			for _, record := range m.seen {
				distinct[string(record.Key)] = true
			}
			m.Unlock()
		}
		return len(distinct) == sent
	})
	for _, m := range members {
		m.close()
	}
	records := read(ctx, title, sent)
	for partition := range partitions {
		expect(keys(records, int32(partition)), sequence(partition, sent, partitions), "each record once and in order")
	}
}

func run(title string, body func(context.Context)) (outcome string) {
	atMost := caseMax + 4*killedEvery
	ctx, cancel := context.WithTimeout(context.Background(), atMost)
	defer cancel()
	done := make(chan string, 1)
	go func() {
		defer func() {
			switch err := recover().(type) {
			case nil:
				done <- "pass " + title
			case notRun:
				done <- fmt.Sprintf("not run: %s (%s)", title, err.why)
			default:
				done <- fmt.Sprintf("fail %s: %v", title, err)
			}
		}()
		body(ctx)
	}()
	select {
	case outcome = <-done:
	case <-time.After(atMost + time.Second):
		outcome = fmt.Sprintf("fail %s: it takes too long", title)
	}
	return strings.ReplaceAll(outcome, "\n", " ")
}

func main() {
	cases := []struct {
		title string
		body  func(context.Context)
	}{
		{"produce-consume", produceConsume},
		{"compression-gzip", compression(kgo.GzipCompression())},
		{"compression-snappy", compression(kgo.SnappyCompression())},
		{"compression-lz4", compression(kgo.Lz4Compression())},
		{"compression-zstd", compression(kgo.ZstdCompression())},
		{"acks-none-and-one", acks},
		{"idempotence", idempotence},
		{"group-rebalance", rebalance(kgo.Balancers(kgo.RangeBalancer()))},
		{"group-rebalance-sticky", rebalance(kgo.Balancers(kgo.StickyBalancer()))},
		{"group-rebalance-cooperative", rebalance(kgo.Balancers(kgo.CooperativeStickyBalancer()))},
		{"group-static-members", staticMembers},
		{"group-commits", groupCommits},
		{"seek-by-time", seekByTime},
		{"admin-topics", adminTopics},
		{"admin-configs", adminConfigs},
		{"admin-delete-records", adminDeleteRecords},
		{"admin-groups", adminGroups},
		{"admin-cluster", adminCluster},
		{"admin-acls", adminACLs},
		{"transactions", transactions},
		{"tls", withTLS},
		{"sasl-plain", withSASL(func(user, password string) sasl.Mechanism {
			return plain.Auth{User: user, Pass: password}.AsMechanism()
		})},
		{"sasl-scram-256", withSASL(func(user, password string) sasl.Mechanism {
			return scram.Auth{User: user, Pass: password}.AsSha256Mechanism()
		})},
		{"sasl-scram-512", withSASL(func(user, password string) sasl.Mechanism {
			return scram.Auth{User: user, Pass: password}.AsSha512Mechanism()
		})},
		{"killed-groups", killedGroups},
	}
	wanted := strings.FieldsFunc(os.Getenv("SF_COMPAT_CASES"), func(r rune) bool { return r == ',' })
	for _, one := range cases {
		if len(wanted) > 0 && !slices.Contains(wanted, one.title) {
			continue
		}
		if strings.HasPrefix(one.title, "killed-") != (killedEvery > 0) {
			continue
		}
		fmt.Println(run(one.title, one.body))
	}
}
