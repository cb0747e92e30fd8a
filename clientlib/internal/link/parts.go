package link

import (
	"fmt"

	"github.com/troupelog/troupe/messages/wire"
)

// partsMax bounds an answer in parts, in bytes.
const partsMax = 256 << 20

// parts puts an answer together that comes in several. The zero value waits for the first.
type parts struct {
	first   *wire.ClientFetched
	records [][]byte
	bytes   int
}

// add takes a response and returns the whole one, or nil if more is to come. It fails if
// a part was lost, and for an answer that is larger than any that was asked for.
func (p *parts) add(resp *wire.ClientResponse) (*wire.ClientResponse, error) {
	f := resp.GetFetched()
	switch {
	case f == nil || resp.GetError().GetCode() != 0: // the rest cannot be read
		return resp, nil
	case int(f.Part) != len(p.records):
		return nil, fmt.Errorf("a part of the answer was lost: %w", ErrNoAnswer)
	case p.first == nil && !f.More:
		return resp, nil
	}
	if p.bytes += len(f.Records); p.bytes > partsMax {
		return nil, fmt.Errorf("an answer of more than %d bytes: %w", partsMax, ErrNoAnswer)
	}
	p.records = append(p.records, f.Records)
	if p.first == nil {
		p.first = f
	}
	if f.More {
		return nil, nil
	}
	return p.join(resp), nil
}

// join makes one answer of all parts. What is said besides the records counts as the
// first part has it: that is what the others are parts of.
func (p *parts) join(last *wire.ClientResponse) *wire.ClientResponse {
	records := make([]byte, 0, p.bytes)
	for _, r := range p.records {
		records = append(records, r...)
	}
	f := p.first
	return &wire.ClientResponse{RequestId: last.RequestId, Error: last.Error,
		Result: &wire.ClientResponse_Fetched{Fetched: &wire.ClientFetched{
			HighWatermark: f.HighWatermark, LastStable: f.LastStable, LogStart: f.LogStart,
			Aborted: f.Aborted, Diverging: f.Diverging, Leader: f.Leader, Records: records}}}
}
