package kafka

import "time"

// Metrics is told what the listener does. Calls come from any goroutine, once
// per connection, request or partition and never per record; they must be cheap
// and must not block.
type Metrics interface {
	ConnectionOpened()
	ConnectionClosed()
	// ConnectionRejected counts a connection closed before its time, for one of
	// the reasons below.
	ConnectionRejected(reason string)
	BytesIn(bytes int)  // of request frames
	BytesOut(bytes int) // of response frames
	// Request counts a request that was answered, and the time from its last
	// byte read to its answer sent.
	Request(key, version int16, took time.Duration)
	// RequestError counts a Kafka error code other than 0 in the answer to a
	// partition of a Produce or Fetch.
	RequestError(key, code int16)
	// FetchSessionEvicted counts a fetch session that made way for another.
	FetchSessionEvicted()
	// Topic returns the counters of a topic that exists.
	Topic(name string) TopicMetrics
}

// TopicMetrics counts the partitions of Produce and Fetch requests of one topic.
type TopicMetrics interface {
	Produced(records, bytes int)
	ProduceFailed()
	Fetched(bytes int)
	FetchFailed()
}

// Reasons of ConnectionRejected.
const (
	rejectedUnsupported = "unsupported_request" // an API key or version that is not served
	rejectedMalformed   = "malformed_request"   // a request that does not parse
	rejectedOversized   = "request_size"        // a frame above the limit
	rejectedIdle        = "idle"
	rejectedSlow        = "slow" // stopped in the middle of a request, or reads nothing
)

// noMetrics counts nothing.
type noMetrics struct{}

func (noMetrics) ConnectionOpened()                   {}
func (noMetrics) ConnectionClosed()                   {}
func (noMetrics) ConnectionRejected(string)           {}
func (noMetrics) BytesIn(int)                         {}
func (noMetrics) BytesOut(int)                        {}
func (noMetrics) Request(int16, int16, time.Duration) {}
func (noMetrics) RequestError(int16, int16)           {}
func (noMetrics) FetchSessionEvicted()                {}
func (noMetrics) Topic(string) TopicMetrics           { return noTopicMetrics{} }

type noTopicMetrics struct{}

func (noTopicMetrics) Produced(int, int) {}
func (noTopicMetrics) ProduceFailed()    {}
func (noTopicMetrics) Fetched(int)       {}
func (noTopicMetrics) FetchFailed()      {}
