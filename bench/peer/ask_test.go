//go:build linux

package peer

import (
	"bufio"
	"bytes"
	"strings"
	"testing"
)

func TestAnAnswerIsFoundBehindWhatTheServerSaysOfItself(t *testing.T) {
	var said bytes.Buffer
	in := "INFO {\"server_id\":\"x\"}\r\nPING\r\nMSG answers 1 7\r\n{\"a\":1}\r\n"
	answer, err := readAnswer(bufio.NewReader(strings.NewReader(in)), &said)
	if err != nil || string(answer) != `{"a":1}` {
		t.Errorf("got %q, %v", answer, err)
	}
	if said.String() != "PONG\r\n" {
		t.Errorf("a ping was answered with %q", said.String())
	}
}

func TestWhatIsNoAnswerIsAnError(t *testing.T) {
	for _, in := range []string{
		"INFO {}\r\n",                                      // the end
		"-ERR 'Authorization Violation'\r\n",               // refused
		"HMSG answers 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n", // nobody listens
		"MSG answers 1 many\r\n",                           // no size
		"MSG answers 1 99999999999\r\n",                    // too large
		"MSG answers 1 10\r\nshort",                        // cut off
	} {
		answer, err := readAnswer(bufio.NewReader(strings.NewReader(in)), &bytes.Buffer{})
		if err == nil {
			t.Errorf("%q was answered with %q", in, answer)
		}
	}
}
