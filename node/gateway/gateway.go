// Package gateway is the front door of a node for programs that use the SDK (clientlib).
//
// It owns no state yet but what its clients have under way. Package node builds it.
package gateway
