package kafka

// api is one row of the table of APIs: what is advertised, what is accepted,
// and who answers.
type api struct {
	key      int16
	name     string // Kafka's name of the API, for metrics and logs
	min, max int16  // advertised by ApiVersions
	accepts  int16  // lowest version really served; above min only for Produce
	serve    handler
}

// API keys that the connection treats in a way of their own.
const (
	keyProduce     = 0
	keyFetch       = 1
	keyAPIVersions = 18

	// keyMax bounds the keys of the table, so that it can be an array.
	keyMax = 75
)

// apis is every API of the listener, by key. ApiVersions is answered from it,
// and a key or version it does not list closes the connection. Produce and
// Fetch have no handler: the connection dispatches them without waiting.
//
// A client picks the highest version both sides know and then relies on all of
// that version's semantics, so a maximum here is a promise that the version is
// served in full.
var apis = []api{
	// librdkafka up to 2.11.0 stores gzip, snappy and lz4 batches uncompressed
	// unless Produce 0 is advertised (KAFKA-18659), although it never sends it.
	{key: keyProduce, name: "Produce", min: 0, max: 13, accepts: 3},
	// 17 and 18 only add tagged fields for followers.
	{key: keyFetch, name: "Fetch", min: 4, max: 18, accepts: 4},
	{key: 2, name: "ListOffsets", min: 1, max: 10, accepts: 1, serve: (*Server).listOffsets},
	{key: 3, name: "Metadata", min: 0, max: 13, accepts: 0, serve: (*Server).metadata},
	{key: 8, name: "OffsetCommit", min: 2, max: 10, accepts: 2, serve: (*Server).offsetCommit},
	{key: 9, name: "OffsetFetch", min: 1, max: 10, accepts: 1, serve: (*Server).offsetFetch},
	{key: 10, name: "FindCoordinator", min: 0, max: 6, accepts: 0, serve: (*Server).findCoordinator},
	{key: 11, name: "JoinGroup", min: 0, max: 9, accepts: 0, serve: (*Server).joinGroup},
	{key: 12, name: "Heartbeat", min: 0, max: 4, accepts: 0, serve: (*Server).heartbeat},
	{key: 13, name: "LeaveGroup", min: 0, max: 5, accepts: 0, serve: (*Server).leaveGroup},
	{key: 14, name: "SyncGroup", min: 0, max: 5, accepts: 0, serve: (*Server).syncGroup},
	{key: 15, name: "DescribeGroups", min: 0, max: 6, accepts: 0, serve: (*Server).describeGroups},
	{key: 16, name: "ListGroups", min: 0, max: 5, accepts: 0, serve: (*Server).listGroups},
	{key: keyAPIVersions, name: "ApiVersions", min: 0, max: 4, accepts: 0,
		serve: (*Server).apiVersions},
	{key: 19, name: "CreateTopics", min: 0, max: 7, accepts: 0, serve: (*Server).createTopics},
	{key: 20, name: "DeleteTopics", min: 0, max: 6, accepts: 0, serve: (*Server).deleteTopics},
	{key: 21, name: "DeleteRecords", min: 0, max: 2, accepts: 0, serve: (*Server).deleteRecords},
	{key: 22, name: "InitProducerId", min: 0, max: 5, accepts: 0, serve: (*Server).initProducerID},
	{key: 23, name: "OffsetForLeaderEpoch", min: 2, max: 4, accepts: 2,
		serve: (*Server).offsetForLeaderEpoch},
	// Brokers send 4 and up. Without ACLs whoever does is answered.
	{key: 24, name: "AddPartitionsToTxn", min: 0, max: 5, accepts: 0,
		serve: (*Server).addPartitionsToTxn},
	{key: 25, name: "AddOffsetsToTxn", min: 0, max: 4, accepts: 0, serve: (*Server).addOffsetsToTxn},
	{key: 26, name: "EndTxn", min: 0, max: 5, accepts: 0, serve: (*Server).endTxn},
	{key: 27, name: "WriteTxnMarkers", min: 0, max: 1, accepts: 0, serve: (*Server).writeTxnMarkers},
	{key: 28, name: "TxnOffsetCommit", min: 0, max: 5, accepts: 0, serve: (*Server).txnOffsetCommit},
	{key: 32, name: "DescribeConfigs", min: 1, max: 4, accepts: 1, serve: (*Server).describeConfigs},
	{key: 33, name: "AlterConfigs", min: 0, max: 2, accepts: 0, serve: (*Server).alterConfigs},
	{key: 35, name: "DescribeLogDirs", min: 1, max: 4, accepts: 1, serve: (*Server).describeLogDirs},
	{key: 37, name: "CreatePartitions", min: 0, max: 3, accepts: 0,
		serve: (*Server).createPartitions},
	{key: 42, name: "DeleteGroups", min: 0, max: 2, accepts: 0, serve: (*Server).deleteGroups},
	{key: 43, name: "ElectLeaders", min: 0, max: 2, accepts: 0, serve: (*Server).electLeaders},
	{key: 44, name: "IncrementalAlterConfigs", min: 0, max: 1, accepts: 0,
		serve: (*Server).incrementalAlterConfigs},
	{key: 45, name: "AlterPartitionReassignments", min: 0, max: 1, accepts: 0,
		serve: (*Server).alterPartitionReassignments},
	{key: 46, name: "ListPartitionReassignments", min: 0, max: 0, accepts: 0,
		serve: (*Server).listPartitionReassignments},
	{key: 47, name: "OffsetDelete", min: 0, max: 0, accepts: 0, serve: (*Server).offsetDelete},
	{key: 60, name: "DescribeCluster", min: 0, max: 2, accepts: 0, serve: (*Server).describeCluster},
	{key: 61, name: "DescribeProducers", min: 0, max: 0, accepts: 0,
		serve: (*Server).describeProducers},
	{key: 64, name: "UnregisterBroker", min: 0, max: 0, accepts: 0,
		serve: (*Server).unregisterBroker},
	{key: 65, name: "DescribeTransactions", min: 0, max: 0, accepts: 0,
		serve: (*Server).describeTransactions},
	{key: 66, name: "ListTransactions", min: 0, max: 2, accepts: 0,
		serve: (*Server).listTransactions},
	{key: 68, name: "ConsumerGroupHeartbeat", min: 0, max: 1, accepts: 0,
		serve: (*Server).consumerGroupHeartbeat},
	{key: 69, name: "ConsumerGroupDescribe", min: 0, max: 1, accepts: 0,
		serve: (*Server).consumerGroupDescribe},
	{key: 75, name: "DescribeTopicPartitions", min: 0, max: 0, accepts: 0,
		serve: (*Server).describeTopicPartitions},
}

// apiTable finds an API by its key.
type apiTable [keyMax + 1]*api

func newAPITable() apiTable {
	var t apiTable
	for i := range apis {
		t[apis[i].key] = &apis[i]
	}
	return t
}

// find returns the row of a key, or nil.
func (t *apiTable) find(key int16) *api {
	if key < 0 || int(key) >= len(t) {
		return nil
	}
	return t[key]
}

// serves reports whether the API answers this version.
func (a *api) serves(version int16) bool { return version >= a.accepts && version <= a.max }
