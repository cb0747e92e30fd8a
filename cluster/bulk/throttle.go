package bulk

import "time"

// throttle is a token bucket. What is sent for is paid in advance and settled when
// the answer is there, so that many fetches at once cannot overdraw it. The zero
// value lets everything through. It has one owner and reads no clock.
type throttle struct {
	rate   int64     // bytes per second; 0: no bound
	tokens float64   // bytes that may be asked for; at most a second's worth
	at     time.Time // tokens are as of then
}

// set changes the rate. The bucket starts full.
func (t *throttle) set(now time.Time, rate int64) {
	t.fill(now)
	if t.rate == 0 {
		t.tokens = float64(rate)
	}
	t.rate = max(rate, 0)
	t.tokens = min(t.tokens, float64(t.rate))
}

func (t *throttle) fill(now time.Time) {
	if d := now.Sub(t.at); d > 0 {
		t.tokens = min(t.tokens+d.Seconds()*float64(t.rate), float64(t.rate))
	}
	t.at = now
}

// reserve takes n bytes if anything is left: what is larger than the bucket gets
// through too, and the next waits for it.
func (t *throttle) reserve(now time.Time, n int) bool {
	if t.rate == 0 {
		return true
	}
	t.fill(now)
	if t.tokens <= 0 {
		return false
	}
	t.tokens -= float64(n)
	return true
}

// settle gives back what was reserved and takes what was used.
func (t *throttle) settle(reserved, used int) {
	if t.rate > 0 {
		t.tokens = min(t.tokens+float64(reserved-used), float64(t.rate))
	}
}

// wait returns how long it is until reserve can succeed, if nothing is settled.
func (t *throttle) wait(now time.Time) time.Duration {
	if t.rate == 0 {
		return 0
	}
	t.fill(now)
	seconds := max(0, -t.tokens/float64(t.rate))
	// A millisecond more: the bucket must hold something, not nothing.
	return min(time.Duration(seconds*float64(time.Second))+time.Millisecond, time.Hour)
}
