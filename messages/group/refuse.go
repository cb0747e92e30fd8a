package group

// Refuse implements coord.Request.
func (r *Join) Refuse(err error) {
	r.Reply(Joined{Err: err, Generation: NoGeneration, MemberID: r.MemberID})
}

// Refuse implements coord.Request.
func (r *Sync) Refuse(err error) { r.Reply(Synced{Err: err}) }

// Refuse implements coord.Request.
func (r *Heartbeat) Refuse(err error) { r.Reply(err) }

// Refuse implements coord.Request.
func (r *Leave) Refuse(err error) { r.Reply(Left{Err: err}) }

// Refuse implements coord.Request.
func (r *Commit) Refuse(err error) { r.Reply(Committed{Err: err}) }

// Merges implements coord.Mergeable: a commit overwrites, so one needs not see
// the outcome of another.
func (r *Commit) Merges() {}

// Refuse implements coord.Request.
func (r *TxnCommit) Refuse(err error) { r.Reply(Committed{Err: err}) }

// Refuse implements coord.Request.
func (r *TxnEnded) Refuse(error) {}

// Notice implements coord.Notice: offsets would stay pending for ever.
func (r *TxnEnded) Notice() {}

// Refuse implements coord.Request.
func (r *FetchOffsets) Refuse(err error) { r.Reply(Fetched{Err: err}) }

// Refuse implements coord.Request.
func (r *Describe) Refuse(err error) { r.Reply(Description{Err: err}) }

// Refuse implements coord.Request.
func (r *List) Refuse(error) { r.Reply(Listed{}, false) }

// Refuse implements coord.Request.
func (r *Delete) Refuse(err error) { r.Reply(err) }

// Refuse implements coord.Request.
func (r *DeleteOffsets) Refuse(err error) { r.Reply(Committed{Err: err}) }

// Refuse implements coord.Request.
func (r *TopicsDeleted) Refuse(error) {}

// Notice implements coord.Notice.
func (r *TopicsDeleted) Notice() {}

// Refuse implements coord.Request.
func (r *ConsumerHeartbeat) Refuse(err error) {
	r.Reply(ConsumerHeartbeated{Err: err, MemberID: r.MemberID, MemberEpoch: r.MemberEpoch})
}
