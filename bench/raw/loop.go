//go:build linux

package raw

import (
	"encoding/binary"
	"fmt"
	"net"
	"time"
)

// loop keeps up to so many requests under way on a connection. It knows of each when it
// was sent, and a tag of the sender's, in a ring.
type loop struct {
	conn    *net.TCPConn
	answers answers
	began   []time.Time
	tags    []int
	oldest  int
	flying  int
}

func newLoop(c *net.TCPConn, window int, a answers) loop {
	return loop{conn: c, answers: a, began: make([]time.Time, window), tags: make([]int, window)}
}

// next is the place in the ring of the next request.
func (l *loop) next() int { return (l.oldest + l.flying) % len(l.tags) }

// push says that the next request is being sent.
func (l *loop) push(tag int, now time.Time) {
	i := l.next()
	l.began[i], l.tags[i] = now, tag
	l.flying++
}

// run calls send with the room there is, which sends and pushes as many requests as it
// likes, and answered for each answer, until no request is under way and send sends none.
func (l *loop) run(
	send func(room int, now time.Time) error, answered func(tag int, took time.Duration),
) error {
	now, answers := time.Now(), 0
	for {
		if room := len(l.tags) - l.flying; room > 0 {
			if err := send(room, now); err != nil {
				return fmt.Errorf("after %d answers: %w", answers, err)
			}
		}
		if l.flying == 0 {
			return nil
		}
		n, err := l.answers.read(l.conn)
		if err == nil && n > l.flying {
			err = fmt.Errorf("%d answers to %d requests", n, l.flying)
		}
		if err != nil {
			return fmt.Errorf("after %d answers: %w", answers, err)
		}
		answers += n
		now = time.Now()
		for range n {
			answered(l.tags[l.oldest], now.Sub(l.began[l.oldest]))
			l.oldest = (l.oldest + 1) % len(l.tags)
			l.flying--
		}
	}
}

// answers reads answers of one size, as many at once as there are.
type answers struct {
	size   int   // of an answer, without its size field
	errors []int // places of error codes
	buffer []byte
	have   int
}

func newAnswers(size int, errors []int, window int) answers {
	return answers{size: size, errors: errors, buffer: make([]byte, window*(4+size))}
}

// read returns how many answers came, one at least, all of them without an error code.
func (a *answers) read(c *net.TCPConn) (int, error) {
	whole := 4 + a.size
	for a.have < whole {
		n, err := c.Read(a.buffer[a.have:])
		if a.have += n; err != nil {
			return 0, err
		}
	}
	count := a.have / whole
	for i := range count {
		answer := a.buffer[i*whole : (i+1)*whole]
		if got := int(binary.BigEndian.Uint32(answer)); got != a.size {
			return 0, fmt.Errorf("answer of %d bytes, expected %d", got, a.size)
		}
		for _, at := range a.errors {
			if err := answerError(answer[4:], at); err != nil {
				return 0, err
			}
		}
	}
	a.have = copy(a.buffer, a.buffer[count*whole:a.have])
	return count, nil
}
