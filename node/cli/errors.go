package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// failure is an error that says what to do about it.
type failure struct {
	why    string
	remedy string
	err    error // what it is about, for errors.Is; may be nil
}

func (f *failure) Error() string { return f.why + "; " + f.remedy }
func (f *failure) Unwrap() error { return f.err }

// usageError is a mistake on the command line; nothing was tried.
type usageError struct {
	why    string
	remedy string
}

func (u *usageError) Error() string { return u.why + "; " + u.remedy }

// errorLine is the one line printed for a failed command:
// "troupe: <what>: <why>; <remedy>".
func errorLine(cmd *cobra.Command, err error, usage bool, g *globals) string {
	what := cmd.CommandPath()
	line := strings.Replace(what, " ", ": ", 1) // "troupe topic list" is "troupe: topic list"
	if usage {
		return oneLine(line + ": " + usageText(cmd, err))
	}
	return oneLine(line + ": " + explain(err, g.brokerList(), g.timeout))
}

// usageText adds where to look to cobra's own complaints.
func usageText(cmd *cobra.Command, err error) string {
	var bad *usageError
	if errors.As(err, &bad) {
		return bad.Error()
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	return fmt.Sprintf("%s; see %s --help", text, cmd.CommandPath())
}

// explain says why a command failed and what to do about it.
func explain(err error, brokers string, timeout time.Duration) string {
	var ours *failure
	var worded *told
	if errors.As(err, &ours) || errors.As(err, &worded) {
		return err.Error()
	}
	var dial *net.OpError
	var dns *net.DNSError
	var eof *kgo.ErrFirstReadEOF
	switch {
	case errors.As(err, &dns):
		return fmt.Sprintf("no address for the host %q: check --brokers (%s)", dns.Name, brokers)
	case errors.As(err, &dial) && dial.Op == "dial":
		return fmt.Sprintf("no broker answers at %s: %s; "+
			"start one with \"troupe start\" or name another with --brokers",
			dialled(dial, brokers), rootCause(dial))
	case errors.As(err, &eof):
		return fmt.Sprintf("the broker at %s closed the connection: it may want TLS or SASL, "+
			"or not be a Kafka listener; check --brokers", brokers)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Sprintf("no answer from %s within %s; check --brokers or raise --timeout",
			brokers, timeout)
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return fmt.Sprintf("the connection to %s broke; check the broker and try again", brokers)
	}
	var auth *kadm.AuthError
	if errors.As(err, &auth) {
		err = auth.Err
	}
	return kafkaText(err, "")
}

// dialled is the address that refused, or the list we were given.
func dialled(e *net.OpError, brokers string) string {
	if e.Addr == nil {
		return brokers
	}
	return e.Addr.String()
}

// rootCause is the innermost error's text, such as "connection refused".
func rootCause(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// kafkaText is a Kafka error in words: what the broker said about this case, or
// else the protocol's own description, and the error's name to search for.
func kafkaText(err error, said string) string {
	var ke *kerr.Error
	if !errors.As(err, &ke) {
		return err.Error()
	}
	text := said
	if text == "" {
		text = ke.Description
	}
	text = fmt.Sprintf("%s (%s)", strings.TrimRight(text, ". "), ke.Message)
	if isUnplaced(ke) || errors.Is(ke, kerr.OffsetNotAvailable) {
		// Usual for a moment after a failover. If it stays, replicas are missing.
		text += "; try again, and see \"troupe cluster status\" if it stays so"
	}
	return text
}

// topicError is what a broker's error about topic means to the user.
func topicError(topic string, err error, said string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID):
		return unknownTopic(topic, err)
	case errors.Is(err, kerr.TopicAlreadyExists):
		return &failure{fmt.Sprintf("topic %q exists already", topic),
			"accept that with --if-not-exists, or choose another name", err}
	case errors.Is(err, kerr.InvalidTopicException):
		return &failure{fmt.Sprintf("%q is no topic name", topic),
			"use 1 to 249 of the letters a-z and A-Z, digits, '.', '_' and '-'", err}
	case isKafka(err) && strings.Contains(said, strconv.Quote(topic)):
		return &told{kafkaText(err, said), err}
	case isKafka(err):
		return fmt.Errorf("topic %q: %w", topic, &told{kafkaText(err, said), err})
	}
	return err
}

// unknownTopic is the error about a topic the cluster does not have.
func unknownTopic(topic string, err error) error {
	return &failure{fmt.Sprintf("the cluster has no topic %q", topic),
		fmt.Sprintf("see \"troupe topic list\", or create it with \"troupe topic create %s\"", topic),
		err}
}

// told is an error whose text was chosen for the user.
type told struct {
	text string
	err  error
}

func (t *told) Error() string { return t.text }
func (t *told) Unwrap() error { return t.err }

// worded keeps the text of a node's error. What explain knows is about clients:
// it would have a host that a node cannot listen on looked for in --brokers.
func worded(err error) error {
	if err == nil {
		return nil
	}
	return &told{err.Error(), err}
}

func isKafka(err error) bool {
	var ke *kerr.Error
	return errors.As(err, &ke)
}

// oneLine replaces what would break a line or drive a terminal. Joined errors
// have a line each, so a line ends like a sentence.
func oneLine(s string) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
	return printable(strings.Join(lines, "; "))
}
