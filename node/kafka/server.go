package kafka

// Server is the Kafka listener of one node.
type Server struct {
	partitions Partitions
	cluster    Cluster
	settings   Settings
	apis       apiTable
}
