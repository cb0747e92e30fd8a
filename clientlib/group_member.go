package clientlib

// groupMember is who commits offsets of a group: a member, or with an empty id and an
// epoch below 0 somebody who is none.
type groupMember struct {
	id, instance string
	epoch        int32
}
