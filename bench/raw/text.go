//go:build linux

package raw

import (
	"math/rand/v2"
	"strconv"
)

// text is an endless row of words and numbers, always the same one.
type text struct {
	rng  *rand.Rand
	left []byte
}

func newText() *text { return &text{rng: rand.New(rand.NewPCG(1, 1))} }

var words = []string{
	"order", "customer", "amount", "currency", "warehouse", "shipped", "pending", "returned",
	"invoice", "address", "street", "country", "quantity", "discount", "received", "carrier",
}

// next returns the next n bytes, which are the caller's.
func (t *text) next(n int) []byte {
	for len(t.left) < n {
		t.left = append(t.left, words[t.rng.IntN(len(words))]...)
		t.left = append(t.left, '=')
		t.left = strconv.AppendUint(t.left, t.rng.Uint64()>>t.rng.IntN(64), 36)
		t.left = append(t.left, ' ')
	}
	value := append([]byte(nil), t.left[:n]...)
	t.left = append(t.left[:0], t.left[n:]...)
	return value
}
