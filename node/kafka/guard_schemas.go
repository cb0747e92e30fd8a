package kafka

import "math"

// field describes one field of a request over all versions, as Kafka's message
// definitions do.
type field struct {
	kind     kind
	size     int   // of kindFixed, in bytes
	from, to int16 // versions that have the field
	nullable int16 // first version in which it may be null
	fields   []field
	bare     bool  // fields is the one field of an array of primitives
	tag      int16 // tagged if not negative
}

const never = math.MaxInt16

func fixed(size int) field {
	return field{kind: kindFixed, size: size, to: never, nullable: never, tag: -1}
}

var (
	flag = fixed(1)
	i8   = fixed(1)
	i16  = fixed(2)
	i32  = fixed(4)
	i64  = fixed(8)
	uuid = fixed(16)
	text = field{kind: kindText, to: never, nullable: never, tag: -1}
	blob = field{kind: kindBytes, to: never, nullable: never, tag: -1}
)

// list is an array of structs.
func list(fields ...field) field {
	return field{kind: kindArray, to: never, nullable: never, tag: -1, fields: fields}
}

// listOf is an array of a primitive.
func listOf(f field) field {
	return field{kind: kindArray, to: never, nullable: never, tag: -1, fields: []field{f}, bare: true}
}

// maybe is a struct that may be null, with a presence byte.
func maybe(fields ...field) field {
	return field{kind: kindStruct, to: never, nullable: 0, tag: -1, fields: fields}
}

// plain is a struct that stands as it is; only tagged fields need it.
func plain(fields ...field) field {
	return field{kind: kindStruct, to: never, nullable: never, tag: -1, fields: fields}
}

func (f field) since(v int16) field     { f.from = v; return f }
func (f field) until(v int16) field     { f.to = v; return f }
func (f field) null() field             { f.nullable = 0; return f }
func (f field) nullSince(v int16) field { f.nullable = v; return f }
func (f field) tagged(t int16) field    { f.tag = t; return f }

// schema is the layout of one request over all its versions.
type schema struct {
	flexible int16 // first version with compact lengths and tags
	fields   []field
}

// schemas are the layouts of all requests in the table of APIs, by key.
var schemas = map[int16]schema{
	keyProduce: {9, []field{
		text.null().since(3), i16, i32,
		list(text.until(12), uuid.since(13), list(i32, blob.null())),
	}},
	keyFetch: {12, []field{
		i32.until(14), i32, i32, i32.since(3), i8.since(4), i32.since(7), i32.since(7),
		list(text.until(12), uuid.since(13), list(
			i32, i32.since(9), i64, i32.since(12), i64.since(5), i32,
			uuid.tagged(0), i64.tagged(1),
		)),
		list(text.until(12), uuid.since(13), listOf(i32)).since(7),
		text.since(11),
		text.null().tagged(0), plain(i32, i64).tagged(1),
	}},
	2: {6, []field{ // ListOffsets
		i32, i8.since(2),
		list(text, list(i32, i32.since(4), i64, i32.until(0))),
		i32.since(10),
	}},
	3: {9, []field{ // Metadata
		list(uuid.since(10), text.nullSince(10)).nullSince(1),
		flag.since(4), flag.since(8).until(10), flag.since(8),
	}},
	8: {8, []field{ // OffsetCommit
		text, i32, text, text.null().since(7), i64.until(4),
		list(text.until(9), uuid.since(10), list(i32, i64, i32.since(6), text.null())),
	}},
	9: {6, []field{ // OffsetFetch
		text.until(7), list(text, listOf(i32)).until(7).nullSince(2),
		list(
			text, text.null().since(9), i32.since(9),
			list(text.until(9), uuid.since(10), listOf(i32)).null(),
		).since(8),
		flag.since(7),
	}},
	10: {3, []field{ // FindCoordinator
		text.until(3), i8.since(1), listOf(text).since(4),
	}},
	11: {6, []field{ // JoinGroup
		text, i32, i32.since(1), text, text.null().since(5), text, list(text, blob),
		text.null().since(8),
	}},
	12: {4, []field{ // Heartbeat
		text, i32, text, text.null().since(3),
	}},
	13: {4, []field{ // LeaveGroup
		text, text.until(2), list(text, text.null(), text.null().since(5)).since(3),
	}},
	14: {4, []field{ // SyncGroup
		text, i32, text, text.null().since(3), text.null().since(5), text.null().since(5),
		list(text, blob),
	}},
	15: {5, []field{ // DescribeGroups
		listOf(text), flag.since(3),
	}},
	16: {3, []field{ // ListGroups
		listOf(text).since(4), listOf(text).since(5),
	}},
	keyAPIVersions: {3, []field{text.since(3), text.since(3)}},
	19: {5, []field{ // CreateTopics
		list(text, i32, i16, list(i32, listOf(i32)), list(text, text.null())),
		i32, flag.since(1),
	}},
	20: {4, []field{ // DeleteTopics
		listOf(text).until(5), list(text.null(), uuid).since(6), i32,
	}},
	21: {2, []field{ // DeleteRecords
		list(text, list(i32, i64)), i32,
	}},
	22: {2, []field{ // InitProducerId
		text.null(), i32, i64.since(3), i16.since(3),
	}},
	23: {4, []field{ // OffsetForLeaderEpoch
		i32.since(3), list(text, list(i32, i32.since(2), i32)),
	}},
	24: {3, []field{ // AddPartitionsToTxn
		text.until(3), i64.until(3), i16.until(3), list(text, listOf(i32)).until(3),
		list(text, i64, i16, flag, list(text, listOf(i32))).since(4),
	}},
	25: {3, []field{ // AddOffsetsToTxn
		text, i64, i16, text,
	}},
	26: {3, []field{ // EndTxn
		text, i64, i16, flag,
	}},
	27: {1, []field{ // WriteTxnMarkers
		list(i64, i16, flag, list(text, listOf(i32)), i32),
	}},
	28: {3, []field{ // TxnOffsetCommit
		text, text, i64, i16, i32.since(3), text.since(3), text.null().since(3),
		list(text, list(i32, i64, i32.since(2), text.null())),
	}},
	32: {4, []field{ // DescribeConfigs
		list(i8, text, listOf(text).null()), flag.since(1), flag.since(3),
	}},
	33: {2, []field{ // AlterConfigs
		list(i8, text, list(text, text.null())), flag,
	}},
	35: {2, []field{ // DescribeLogDirs
		list(text, listOf(i32)).null(),
	}},
	37: {2, []field{ // CreatePartitions
		list(text, i32, list(listOf(i32)).null()), i32, flag,
	}},
	42: {2, []field{ // DeleteGroups
		listOf(text),
	}},
	43: {2, []field{ // ElectLeaders
		i8.since(1), list(text, listOf(i32)).null(), i32,
	}},
	44: {1, []field{ // IncrementalAlterConfigs
		list(i8, text, list(text, i8, text.null())), flag,
	}},
	45: {0, []field{ // AlterPartitionReassignments
		i32, flag.since(1), list(text, list(i32, listOf(i32).null())),
	}},
	46: {0, []field{ // ListPartitionReassignments
		i32, list(text, listOf(i32)).null(),
	}},
	47: {never, []field{ // OffsetDelete
		text, list(text, list(i32)),
	}},
	60: {0, []field{ // DescribeCluster
		flag, i8.since(1), flag.since(2),
	}},
	61: {0, []field{ // DescribeProducers
		list(text, listOf(i32)),
	}},
	64: {0, []field{i32}}, // UnregisterBroker
	65: {0, []field{ // DescribeTransactions
		listOf(text),
	}},
	66: {0, []field{ // ListTransactions
		listOf(text), listOf(i64), i64.since(1), text.null().since(2),
	}},
	68: {0, []field{ // ConsumerGroupHeartbeat
		text, text, i32, text.null(), text.null(), i32, listOf(text).null(),
		text.null().since(1), text.null(), list(uuid, listOf(i32)).null(),
	}},
	69: {0, []field{ // ConsumerGroupDescribe
		listOf(text), flag,
	}},
	75: {0, []field{ // DescribeTopicPartitions
		list(text), i32, maybe(text, i32),
	}},
}

// shape compiles a schema for one version.
func (s schema) shape(version int16) *shape {
	return compile(s.fields, version, version >= s.flexible, false)
}

func compile(fields []field, version int16, flexible, bare bool) *shape {
	s := &shape{flexible: flexible, bare: bare}
	for _, f := range fields {
		if version < f.from || version > f.to {
			continue
		}
		if f.tag >= 0 {
			if flexible {
				s.tags = append(s.tags, tagStep{uint32(f.tag), compileTag(f, version)})
			}
			continue
		}
		st := step{kind: f.kind, size: f.size, nullable: version >= f.nullable}
		if f.kind == kindArray || f.kind == kindStruct {
			st.elem = compile(f.fields, version, flexible, f.bare)
		}
		s.steps = append(s.steps, st)
		s.least += st.least(flexible)
	}
	if flexible && !bare {
		s.least++
	}
	return s
}

// compileTag compiles a tagged field: a struct, or one bare field.
func compileTag(f field, version int16) *shape {
	if f.kind == kindStruct {
		return compile(f.fields, version, true, false)
	}
	f.tag = -1
	return compile([]field{f}, version, true, true)
}

// least is how many bytes the field takes at least.
func (s *step) least(flexible bool) int {
	switch {
	case s.kind == kindFixed:
		return s.size
	case flexible || s.kind == kindStruct:
		return 1
	case s.kind == kindText:
		return 2
	default:
		return 4
	}
}
