package kafka

// appendResponse appends the header's tag section and the body of the response
// to a Produce request. kmsg would do, but it decides by reflection, for each
// partition, whether there are tagged fields.
func (p *produceCall) appendResponse(b []byte) []byte {
	w := encoder{b: b, flexible: p.version >= 9}
	w.tags(0) // of the header
	nodes := endpoints{conn: p.conn}
	w.arrayLen(len(p.topics))
	part := 0
	for i := range p.topics {
		t := &p.topics[i]
		if p.version >= 13 {
			w.b = append(w.b, t.id[:]...)
		} else {
			w.text(t.name)
		}
		w.arrayLen(t.end - part)
		for ; part < t.end; part++ {
			p.appendPartition(&w, t, &p.outcomes[part], &nodes)
		}
		w.tags(0)
	}
	w.i32(0) // throttle time
	w.nodeEndpoints(nodes.nodes)
	return w.b
}

func (p *produceCall) appendPartition(w *encoder, t *produceTopic, o *produceOutcome,
	nodes *endpoints,
) {
	w.i32(o.index)
	w.i16(o.code)
	w.i64(int64(o.result.BaseOffset))
	w.i64(int64(o.result.LogAppendTime))
	if p.version >= 5 {
		w.i64(int64(o.result.LogStart))
	}
	if p.version >= 8 {
		bad := o.recordErrors()
		w.arrayLen(len(bad))
		for i := range bad {
			w.i32(bad[i].Index)
			w.text(bad[i].Message)
			w.tags(0)
		}
		if message := errorMessage(o.result.Err); message != nil {
			w.text(*message)
		} else {
			w.null()
		}
	}
	if p.version >= 10 && o.code == codeNotLeaderOrFollower {
		if h := leaderHint(o.result.Leader, t.topic, o.index); nodes.known(h) {
			w.tags(1)
			w.leaderTag(0, h)
			return
		}
	}
	w.tags(0)
}
