package kafka

import (
	"github.com/troupelog/troupe/node/door"
)

// Versions of Produce that change what a transactional batch is answered.
const (
	produceAbortable = 11 // the client knows TRANSACTION_ABORTABLE
	produceAdds      = 12 // transaction.version 2
)

// asksCoordinator reports whether the coordinator is asked about transactional
// batches of this request. Where partitions are only verified that can be switched off.
func (p *produceCall) asksCoordinator() bool {
	s := p.conn.s
	return s.coordinators != nil && (p.version >= produceAdds ||
		s.settings.Value("transaction.partition.verification.enable") != "false")
}

// verify is the Verify of the append.
func (a *produceAppend) verify(reply func(error)) {
	p, h := a.call, &a.data.Batch.Header
	key := door.TxnKey{ID: p.txnID, Producer: h.ProducerID, Epoch: h.ProducerEpoch,
		VerifyOnly: p.version < produceAdds}
	client := txnClient(p.version)
	p.conn.txns.Ask(key, door.TxnQuestion{Partition: a.partition,
		Reply: func(err error) { reply(client.Refusal(err)) }})
}

// txnClient says what clients that speak a version of Produce understand.
func txnClient(version int16) door.TxnClient {
	return door.TxnClient{VerifyOnly: version < produceAdds, Abortable: version >= produceAbortable}
}
