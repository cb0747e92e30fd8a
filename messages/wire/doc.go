// Package wire is the protobuf form of what crosses nodes and of what the
// registry stores, with the conversions from and to package messages.
//
// It owns the encoding and the registry's keys, nothing else: no state, no I/O.
// The controller and the node agents use it at their edges; code that decides
// works on package messages only.
//
// Names: FromX turns an X of package messages into its wire form, ToX the other
// way. FromX cannot fail. ToX checks what it reads, because the peer may be of
// another version and a file may be damaged; its errors name the field.
//
// The sources are proto/troupe/wire/v1/*.proto. Regenerate with "make proto".
package wire
