package messages

// CreateTopic asks the controller for a topic.
type CreateTopic struct {
	Name              string
	Partitions        int32 // -1: num.partitions
	ReplicationFactor int16 // -1: default.replication.factor
	// Assignment gives the replicas of every partition by hand; nil lets the
	// controller place them. Partitions and ReplicationFactor are -1 then.
	Assignment map[int32][]NodeID
	Configs    Config
}

// TopicResult is the outcome of an operation on one topic.
type TopicResult struct {
	Name              string
	ID                TopicID
	Partitions        int32
	ReplicationFactor int16
	Configs           Config
	Err               error
}

// TopicRef names a topic by name or, when Name is empty, by id.
type TopicRef struct {
	Name string
	ID   TopicID
}

// CreatePartitions grows a topic to Count partitions.
type CreatePartitions struct {
	Topic      string
	Count      int32
	Assignment [][]NodeID // of the new partitions; nil: placed by the controller
}

// ConfigResourceType is Kafka's resource type of the config APIs.
type ConfigResourceType int8

const (
	ConfigTopic  ConfigResourceType = 2
	ConfigBroker ConfigResourceType = 4
	ConfigGroup  ConfigResourceType = 32
)

// ConfigResource names what is configured: a topic by name, a node by its id in
// digits, or all nodes with an empty name.
type ConfigResource struct {
	Type ConfigResourceType
	Name string
}

// ConfigOp is an operation of IncrementalAlterConfigs.
type ConfigOp int8

const (
	ConfigSet      ConfigOp = 0
	ConfigDelete   ConfigOp = 1
	ConfigAppend   ConfigOp = 2
	ConfigSubtract ConfigOp = 3
)

// ConfigChange is one change to one key.
type ConfigChange struct {
	Key   string
	Op    ConfigOp
	Value string
}

// AlterConfigs changes one resource, all or nothing.
type AlterConfigs struct {
	Resource ConfigResource
	Changes  []ConfigChange
	// Replace makes Changes (all ConfigSet) the whole set: the old AlterConfigs API.
	Replace bool
}

// ReplicaSize is one row of DescribeLogDirs.
type ReplicaSize struct {
	Topic     string
	Partition int32
	Bytes     int64
	Lag       int64
	Future    bool
}

// LogDir is one data directory of a node.
type LogDir struct {
	Path        string
	Err         error // ErrStorage when offline
	TotalBytes  int64
	UsableBytes int64
	Replicas    []ReplicaSize
}
