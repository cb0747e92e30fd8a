package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/troupelog/troupe/messages"
)

// firstNodeID is the lowest id that is given out, the one a node without a
// cluster has too.
const firstNodeID messages.NodeID = 1

// nodeRecord says who a node id was given to.
type nodeRecord struct {
	Directory string `json:"directory"`

	node  messages.NodeID
	index uint64
}

// AllocateNode gives a node its id. directory is the id of its data directory:
// the same directory is given the same id again.
//
// want < 0 asks for the lowest id that was never given out. Any other want is
// recorded as this directory's from now on, also if another directory had it: a
// node whose disk was replaced keeps its id. Whether the former owner is alive
// and must not lose it is for the controller to judge, when the node registers.
func (c *Consul) AllocateNode(
	ctx context.Context, directory string, want messages.NodeID,
) (messages.NodeID, error) {
	if directory == "" {
		return messages.NoNode, fmt.Errorf("a node id is given to a data directory, this has no id")
	}
	if err := usable(ctx, c.closed); err != nil {
		return messages.NoNode, err
	}
	ctx, cancel := c.whileOpen(ctx)
	defer cancel()
	for {
		given, err := c.givenIDs(ctx)
		if err != nil {
			return messages.NoNode, err
		}
		r := choose(given, directory, want)
		if given[r.node].Directory == directory {
			return r.node, nil
		}
		ok, _, err := c.client.KV().CAS(&api.KVPair{Key: c.nodeKey(r.node), Value: encodeJSON(r),
			ModifyIndex: r.index}, (&api.WriteOptions{}).WithContext(ctx))
		if err != nil {
			return messages.NoNode, c.explain("reserve a node id", err)
		}
		if ok {
			return r.node, nil
		}
		// Another node took it meanwhile; there are not many that could.
	}
}

// ClusterID returns the id of the cluster, the same to all its nodes: what the
// first of them proposed.
func (c *Consul) ClusterID(ctx context.Context, proposal string) (string, error) {
	if proposal == "" {
		return "", fmt.Errorf("a cluster is given an id, none is proposed")
	}
	if err := usable(ctx, c.closed); err != nil {
		return "", err
	}
	ctx, cancel := c.whileOpen(ctx)
	defer cancel()
	key := c.prefix + "cluster-id"
	// With index 0 it is written only if it is not there.
	_, _, err := c.client.KV().CAS(&api.KVPair{Key: key, Value: []byte(proposal)},
		(&api.WriteOptions{}).WithContext(ctx))
	if err != nil {
		return "", c.explain("name the cluster", err)
	}
	pair, _, err := c.client.KV().Get(key, consistent(ctx))
	if err != nil {
		return "", c.explain("read the cluster's id", err)
	}
	if pair == nil || len(pair.Value) == 0 {
		return "", c.damaged(key, errors.New("it is empty"))
	}
	return string(pair.Value), nil
}

// choose returns the record to write, or one that is there.
func choose(
	given map[messages.NodeID]nodeRecord, directory string, want messages.NodeID,
) nodeRecord {
	if want >= 0 {
		return nodeRecord{Directory: directory, node: want, index: given[want].index}
	}
	mine := nodeRecord{node: messages.NoNode}
	for _, r := range given {
		if r.Directory == directory && r.index > mine.index {
			mine = r
		}
	}
	if mine.node != messages.NoNode {
		return mine
	}
	free := firstNodeID
	for given[free].index != 0 {
		free++
	}
	return nodeRecord{Directory: directory, node: free}
}

func (c *Consul) nodeKey(n messages.NodeID) string {
	return c.prefix + "node-ids/" + strconv.Itoa(int(n))
}

func (c *Consul) givenIDs(ctx context.Context) (map[messages.NodeID]nodeRecord, error) {
	prefix := c.prefix + "node-ids/"
	pairs, _, err := c.client.KV().List(prefix, consistent(ctx))
	if err != nil {
		return nil, c.explain("list the node ids", err)
	}
	given := map[messages.NodeID]nodeRecord{}
	for _, p := range pairs {
		id, err := strconv.ParseInt(strings.TrimPrefix(p.Key, prefix), 10, 32)
		if err != nil {
			return nil, c.damaged(p.Key, err)
		}
		r := nodeRecord{node: messages.NodeID(id), index: p.ModifyIndex}
		if err := json.Unmarshal(p.Value, &r); err != nil {
			return nil, c.damaged(p.Key, err)
		}
		given[r.node] = r
	}
	return given, nil
}
