//go:build linux

package peer

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

const (
	askTimeout = 30 * time.Second
	maxAnswer  = 1 << 20
)

// ask sends one request to a NATS server and waits for the answer. That is all that bench
// needs of the protocol; loads are given by a program with the real client. It fails when
// nobody answers to the subject, and when the answer says that what was asked failed.
func ask(ctx context.Context, addr, subject string, payload []byte) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	_, err = fmt.Fprintf(c, "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\n"+
		"SUB answers 1\r\nPUB %s answers %d\r\n%s\r\n", subject, len(payload), payload)
	if err != nil {
		return err
	}
	answer, err := readAnswer(bufio.NewReader(c), c)
	if err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	var told struct {
		Error *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(answer, &told); err != nil {
		return fmt.Errorf("%s: %w", subject, err)
	}
	if told.Error != nil {
		return fmt.Errorf("%s: %s", subject, told.Error.Description)
	}
	return nil
}

// readAnswer returns the payload of the first message that the server sends.
func readAnswer(r *bufio.Reader, w io.Writer) ([]byte, error) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, err
		}
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == "PING":
			if _, err := io.WriteString(w, "PONG\r\n"); err != nil {
				return nil, err
			}
		case words[0] == "-ERR":
			return nil, errors.New(strings.TrimSpace(line))
		case words[0] == "HMSG": // an answer of the server itself: a status, no payload
			return nil, errors.New("nobody answers")
		case words[0] == "MSG":
			size, err := strconv.Atoi(words[len(words)-1])
			if err != nil || size < 0 || size > maxAnswer {
				return nil, fmt.Errorf("not the head of a message: %q", line)
			}
			payload := make([]byte, size)
			_, err = io.ReadFull(r, payload)
			return payload, err
		}
	}
}
