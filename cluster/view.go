// Package cluster makes the actor systems of several nodes one: it knows who is
// alive, decides where each virtual actor lives, and starts it there.
//
// It owns the membership view and the identity lookup of a node's actor system.
// package node builds it; actors reach it through small interfaces of their own.
//
// Placement of anything that owns data follows the metadata the controller
// decided, never a hash of the membership: an activation is a guess all the
// same, so every durable write names an epoch.
package cluster

import (
	"cmp"
	"slices"

	"github.com/troupelog/troupe/messages"
)

// Member is one live process of the cluster.
type Member struct {
	Node        messages.NodeID
	Incarnation string // of this process life
	Address     string // of its actor system
	Bulk        string // of its listener for replication; "" when it has none
}

// View is what a node believes about the cluster at one moment. It is immutable.
type View struct {
	Self       messages.NodeID
	Members    []Member        // by node id
	Controller messages.NodeID // holder of the controller lock; NoNode when unknown
	Image      *messages.Image // newest metadata seen; never nil
}

// Member returns the live member of that node, or nil.
func (v *View) Member(n messages.NodeID) *Member {
	i, ok := slices.BinarySearchFunc(v.Members, n, func(m Member, n messages.NodeID) int {
		return cmp.Compare(m.Node, n)
	})
	if !ok {
		return nil
	}
	return &v.Members[i]
}

// Rendezvous returns the member on which an identity without data lives: the one
// with the highest hash of member and identity, so that a member that comes or
// goes moves only its share. It hashes node ids, not addresses: a node that
// comes back on another port gets its identities again. Members that the metadata
// calls fenced or leaving are passed over while there are others: that a process
// is gone stands there seconds before the membership notices. NoNode without members.
func (v *View) Rendezvous(identity string) messages.NodeID {
	best, high, sound := messages.NoNode, uint64(0), false
	for _, m := range v.Members {
		h, ok := score(m.Node, identity), v.sound(m.Node)
		if best == messages.NoNode || ok && !sound || ok == sound && h > high {
			best, high, sound = m.Node, h, ok
		}
	}
	return best
}

// sound reports whether the metadata knows nothing bad of a member.
func (v *View) sound(n messages.NodeID) bool {
	if v.Image == nil {
		return true
	}
	node := v.Image.Node(n)
	return node == nil || node.MayLead()
}

// score hashes with FNV-1a and mixes the result (the finalizer of MurmurHash3):
// without the mixing, neighbouring node ids get badly uneven shares.
func score(n messages.NodeID, identity string) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for i := range 4 {
		h = (h ^ uint64(byte(n>>(8*i)))) * prime
	}
	for i := range len(identity) {
		h = (h ^ uint64(identity[i])) * prime
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
