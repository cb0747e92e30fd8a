package clientlib

import (
	"context"
	"errors"
	"testing"
)

func TestTypedWithoutASerializerIsRefused(t *testing.T) {
	var none Typed[string]
	r := &Record{Topic: "t", Value: []byte("v")}
	_, decoded := none.Decode(r)
	for what, err := range map[string]error{
		"Decode": decoded, "Encode": none.Encode(r, "v"),
		"Produce": none.Produce(t.Context(), nil, r, "v"),
		"Process": none.Process(t.Context(), nil,
			func(context.Context, Message[string]) error { return nil }),
	} {
		if !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
