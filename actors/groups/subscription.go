package groups

// subscription is what the members of a classic group of consumers read.
type subscription struct {
	known  bool // false: the metadata of a member could not be read
	topics map[string]struct{}
}

// has reports whether a member may read the topic; it may read anything if that
// is not known.
func (s *subscription) has(topic string) bool {
	if !s.known {
		return true
	}
	_, ok := s.topics[topic]
	return ok
}

// subscriptionsOf reads what members say in a protocol of consumers. To others
// their metadata is opaque.
func subscriptionsOf(members []*member, protocolType, protocol string) subscription {
	if protocolType != consumerType {
		return subscription{}
	}
	s := subscription{known: true, topics: map[string]struct{}{}}
	for _, m := range members {
		topics, ok := subscribedTopics(m.metadata(protocol))
		if !ok {
			return subscription{}
		}
		for _, t := range topics {
			s.topics[t] = struct{}{}
		}
	}
	return s
}

// subscribedTopics reads the beginning of a consumer's subscription, which is the
// same in all versions: version 2 | topics array of strings.
func subscribedTopics(subscription []byte) (topics []string, ok bool) {
	r := &reader{b: subscription}
	r.int16()
	for n := r.int32(); n > 0 && r.err == nil; n-- {
		topics = append(topics, r.string(false))
	}
	return topics, r.err == nil
}
