// Package quota bounds a rate with a token bucket: bytes per second of replication
// that catches up. It is pure; the caller says what time it is.
package quota

import "time"

// Bucket is a token bucket. What is sent for is paid in advance and settled when
// the answer is there, so that many fetches at once cannot overdraw it. The zero
// value lets everything through. It has one owner and reads no clock.
type Bucket struct {
	rate   int64     // bytes per second; 0: no bound
	tokens float64   // bytes that may be asked for; at most a second's worth
	at     time.Time // tokens are as of then
}

// Set changes the rate. The bucket starts full.
func (b *Bucket) Set(now time.Time, rate int64) {
	b.fill(now)
	if b.rate == 0 {
		b.tokens = float64(rate)
	}
	b.rate = max(rate, 0)
	b.tokens = min(b.tokens, float64(b.rate))
}

func (b *Bucket) fill(now time.Time) {
	if d := now.Sub(b.at); d > 0 {
		b.tokens = min(b.tokens+d.Seconds()*float64(b.rate), float64(b.rate))
	}
	b.at = now
}

// Reserve takes n bytes if anything is left: what is larger than the bucket gets
// through too, and the next waits for it.
func (b *Bucket) Reserve(now time.Time, n int) bool {
	if b.rate == 0 {
		return true
	}
	b.fill(now)
	if b.tokens <= 0 {
		return false
	}
	b.tokens -= float64(n)
	return true
}

// Settle gives back what was reserved and takes what was used.
func (b *Bucket) Settle(reserved, used int) {
	if b.rate > 0 {
		b.tokens = min(b.tokens+float64(reserved-used), float64(b.rate))
	}
}

// Wait returns how long it is until Reserve can succeed, if nothing is settled.
func (b *Bucket) Wait(now time.Time) time.Duration {
	if b.rate == 0 {
		return 0
	}
	b.fill(now)
	seconds := max(0, -b.tokens/float64(b.rate))
	// A millisecond more: the bucket must hold something, not nothing.
	return min(time.Duration(seconds*float64(time.Second))+time.Millisecond, time.Hour)
}
