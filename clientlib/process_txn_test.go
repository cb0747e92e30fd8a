package clientlib

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/troupelog/troupe/messages/group"
	"github.com/troupelog/troupe/messages/wire"
)

// madeTxns are transactions that remember what became of them: "commit 0:5 dead:3" with
// positions and dead letters, "abort".
type madeTxns struct {
	mu     sync.Mutex
	open   bool
	dead   []string
	did    []string
	epoch  int32
	who    []int32                           // epochs that committed
	refuse func(try int) error               // of a commit
	begun  func(try int) error               // of begin
	burial func(try int) error               // of bury
	failed func(tx *Transaction) error       // of failure
	noted  []*wire.ClientPosition            // committed
	tries  struct{ begin, commit, bury int } // so far
}

func (m *madeTxns) member() groupMember { return groupMember{id: "me", epoch: m.epoch} }

// try counts, and asks a test's function.
func try(n *int, f func(int) error) error {
	*n++
	if f == nil {
		return nil
	}
	return f(*n)
}

func (m *madeTxns) begin(context.Context) (*Transaction, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := try(&m.tries.begin, m.begun); err != nil {
		return nil, err
	}
	if m.open {
		return nil, fmt.Errorf("one is open: %w", ErrInvalidRequest)
	}
	m.open, m.dead = true, nil
	return &Transaction{}, nil
}

func (m *madeTxns) bury(_ context.Context, _ *Transaction, r *Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = append(m.dead, fmt.Sprintf("%s:%s:%s", r.Topic, r.Header("troupe.dlq.offset"),
		r.Header("troupe.dlq.attempts")))
	return try(&m.tries.bury, m.burial)
}

func (m *madeTxns) failure(tx *Transaction) error {
	if m.failed == nil {
		return nil
	}
	return m.failed(tx)
}

func (m *madeTxns) commit(
	_ context.Context, _ *Transaction, who groupMember, ps []*wire.ClientPosition,
) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open = false
	m.who = append(m.who, who.epoch)
	if err := try(&m.tries.commit, m.refuse); err != nil {
		m.did = append(m.did, "refused")
		return err
	}
	text := "commit"
	for _, p := range ps {
		text += fmt.Sprintf(" %d:%d", p.GetPartition(), p.GetOffset())
	}
	for _, d := range m.dead {
		text += " " + d
	}
	m.did = append(m.did, text)
	return nil
}

func (m *madeTxns) abort(context.Context, *Transaction) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open = false
	m.did = append(m.did, "abort")
	return nil
}

func (m *madeTxns) committed(ps []*wire.ClientPosition) { m.noted = append(m.noted, ps...) }

func (m *madeTxns) all() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.did, ", ")
}

// exactly is a processor of transactions that runs.
type exactly struct {
	*txnProcessor
	log    *bytes.Buffer
	cancel context.CancelFunc
	result chan error
}

type txnHandler = func(ctx context.Context, tx *Transaction, records []*Record) error

func startTxns(
	t *testing.T, s source, cfg ConsumerConfig, m *madeTxns, handler txnHandler,
) *exactly {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	x := &exactly{log: &bytes.Buffer{}, cancel: cancel, result: make(chan error, 1)}
	x.txnProcessor = newTxnProcessor(s, cfg, m, handler,
		slog.New(slog.NewTextHandler(x.log, nil)))
	go func() { x.result <- x.run(ctx) }()
	return x
}

func (x *exactly) stop() error {
	x.cancel()
	return <-x.result
}

// keysOf are the keys of records.
func keysOf(records []*Record) string {
	keys := ""
	for _, r := range records {
		keys += string(r.Key)
	}
	return keys
}

func TestABatchAndItsPositionsAreOneTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFedSource(append(orders(0, 3, "a", "b"), orders(1, 7, "c")...), orders(0, 5, "d"))
		m := &madeTxns{epoch: 4}
		var got []string
		x := startTxns(t, s, ConsumerConfig{}, m,
			func(_ context.Context, _ *Transaction, rs []*Record) error {
				got = append(got, keysOf(rs))
				return nil
			})
		synctest.Wait()
		if err := x.stop(); err != nil || m.all() != "commit 0:5 1:8, commit 0:6" {
			t.Errorf("it ended with %v, transactions: %s", err, m.all())
		}
		if fmt.Sprint(got) != "[abc d]" || fmt.Sprint(m.who) != "[4 4]" || len(m.noted) != 3 ||
			s.mark(0) != 6 || s.mark(1) != 8 || s.commits != 0 || s.hooked() ||
			len(s.rewound) != 0 || m.noted[0].GetLeaderEpoch() != 4 {
			t.Errorf("handled %v by %v, noted %v, marks %v, %d commits, rewound %v",
				got, m.who, m.noted, s.marks, s.commits, s.rewound)
		}
	})
}

func TestWhatKeepsFailingIsADeadLetterInATransactionOfItsOwn(t *testing.T) {
	for _, test := range []struct {
		name, keys, calls, did string
		err                    error
	}{
		{"of three", "axb", "[axb axb a x b]",
			"abort, abort, commit 0:1, abort, commit 0:2 orders.dlq:1:3, commit 0:3", errDown},
		{"permanent", "axb", "[axb a x b]",
			"abort, commit 0:1, abort, commit 0:2 orders.dlq:1:2, commit 0:3", Permanent(errDown)},
		{"alone", "x", "[x x]", "abort, abort, commit 0:1 orders.dlq:0:2", errDown},
		{"panic", "x", "[x x]", "abort, abort, commit 0:1 orders.dlq:0:2", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFedSource(orders(0, 0, strings.Split(test.keys, "")...))
				m := &madeTxns{}
				var got []string
				x := startTxns(t, s, ConsumerConfig{Retry: Retry{Attempts: 2}}, m,
					func(_ context.Context, _ *Transaction, rs []*Record) error {
						got = append(got, keysOf(rs))
						if !strings.Contains(keysOf(rs), "x") {
							return nil
						}
						if test.err == nil {
							panic("x")
						}
						return test.err
					})
				letPass(time.Minute)
				synctest.Wait()
				if n := x.mishaps.deadLetters.Load(); n != 1 || x.mishaps.failures.Load() == 0 {
					t.Errorf("%d dead letters, %d failures", n, x.mishaps.failures.Load())
				}
				if err := x.stop(); err != nil || m.all() != test.did || fmt.Sprint(got) != test.calls {
					t.Errorf("it ended with %v, transactions: %s; calls %v", err, m.all(), got)
				}
			})
		})
	}
}

func TestWithoutADeadLetterTopicNothingOfAFailingBatchCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFedSource(append(orders(0, 4, "a", "b"), orders(1, 9, "c")...))
		m := &madeTxns{}
		cfg := ConsumerConfig{DeadLetter: NoDeadLetter, Retry: Retry{Attempts: 2}}
		x := startTxns(t, s, cfg, m,
			func(context.Context, *Transaction, []*Record) error { return errDown })
		err := <-x.result
		if !errors.Is(err, errDown) || m.all() != "abort, abort" {
			t.Errorf("it ended with %v, transactions: %s", err, m.all())
		}
		if s.rewound[Partition{"orders", 0}] != 4 || s.rewound[Partition{"orders", 1}] != 9 {
			t.Errorf("rewound to %v", s.rewound)
		}
	})
}

func TestATransactionThatFailsIsMadeAgainAndTheRecordsAreNotToBlame(t *testing.T) {
	fenced := &offsetsError{group.ErrFencedMemberEpoch}
	for name, m := range map[string]*madeTxns{
		"at its beginning": {begun: until(9, ErrUnavailable)},
		"at its end":       {refuse: until(9, fmt.Errorf("%w: %w", ErrAborted, ErrTimedOut))},
		"by the group":     {refuse: until(9, fenced)},
		"by a topic that is gone": {
			refuse: until(9, &offsetsError{fmt.Errorf("position: %w", ErrUnknownTopic)}),
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFedSource(orders(0, 0, "a"))
				x := startTxns(t, s, ConsumerConfig{Retry: Retry{Attempts: 1}}, m,
					func(context.Context, *Transaction, []*Record) error { return nil })
				letPass(time.Hour)
				synctest.Wait()
				did := m.all()
				if err := x.stop(); err != nil || !strings.HasSuffix(did, "commit 0:1") ||
					strings.Contains(did, "dlq") || s.mark(0) != 1 {
					t.Errorf("it ended with %v, transactions: %s", err, did)
				}
				if n := strings.Count(x.log.String(), "made again"); n != 9 {
					t.Errorf("the log tells of %d failures, want 9", n)
				}
			})
		})
	}
}

// until fails so many times.
func until(n int, err error) func(int) error {
	return func(try int) error {
		if try > n {
			return nil
		}
		return err
	}
}

func TestAHandlerThatPassesOnTheFailureOfItsTransactionDidNotFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFedSource(orders(0, 0, "a"))
		n := 0
		m := &madeTxns{failed: func(*Transaction) error {
			if n <= 3 {
				return fmt.Errorf("%w: %w", ErrAborted, ErrTimedOut)
			}
			return nil
		}}
		x := startTxns(t, s, ConsumerConfig{Retry: Retry{Attempts: 1}}, m,
			func(context.Context, *Transaction, []*Record) error {
				if n++; n <= 3 {
					return ErrTimedOut
				}
				return nil
			})
		letPass(time.Minute)
		synctest.Wait()
		if err := x.stop(); err != nil || m.all() != "abort, abort, abort, commit 0:1" {
			t.Errorf("it ended with %v, transactions: %s", err, m.all())
		}
	})
}

func TestWhatWasSentAndIsRefusedIsTheHandlersFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFedSource(orders(0, 0, "a"))
		refuse := func(try int) error {
			if try == 1 {
				return fmt.Errorf("%w: %w", ErrAborted, ErrTooLarge)
			}
			return nil
		}
		m := &madeTxns{refuse: refuse}
		x := startTxns(t, s, ConsumerConfig{Retry: Retry{Attempts: 1}}, m,
			func(context.Context, *Transaction, []*Record) error { return nil })
		synctest.Wait()
		if err := x.stop(); err != nil || m.all() != "refused, commit 0:1 orders.dlq:0:1" {
			t.Errorf("it ended with %v, transactions: %s", err, m.all())
		}
	})
}

func TestATransactionsDeadLetterThatCannotBeWrittenIsTriedAgain(t *testing.T) {
	for name, refusal := range map[string]error{
		"the topic cannot be made": ErrNotEnoughReplicas, "it is too large": &handlerError{ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFedSource(orders(0, 0, "a"))
				m := &madeTxns{burial: until(3, refusal)}
				x := startTxns(t, s, ConsumerConfig{Retry: Retry{Attempts: 1}}, m,
					func(context.Context, *Transaction, []*Record) error { return errDown })
				letPass(time.Minute)
				synctest.Wait()
				want := "abort, abort, abort, abort, commit 0:1 orders.dlq:0:1"
				if err := x.stop(); err != nil || m.all() != want {
					t.Errorf("it ended with %v, transactions: %s", err, m.all())
				}
			})
		})
	}
}

func TestWhatCannotBeMendedEndsTheProcessing(t *testing.T) {
	for _, cause := range []error{ErrFenced, ErrClosed, ErrInvalidRequest, errUnsettled} {
		s := newFedSource(orders(0, 0, "a"))
		m := &madeTxns{refuse: until(99, cause)}
		x := startTxns(t, s, ConsumerConfig{}, m,
			func(context.Context, *Transaction, []*Record) error { return nil })
		if err := <-x.result; !errors.Is(err, cause) || m.tries.commit != 1 {
			t.Errorf("it ended with %v after %d commits, want %v", err, m.tries.commit, cause)
		}
	}
}

func TestTheTransactionUnderWayEndsBeforeItsPartitionIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFedSource(append(orders(0, 0, "a"), orders(1, 0, "b")...))
		m := &madeTxns{}
		n := 0
		x := startTxns(t, s, ConsumerConfig{}, m,
			func(_ context.Context, _ *Transaction, rs []*Record) error {
				letPass(time.Second)
				if n++; n == 1 {
					return errDown
				}
				return nil
			})
		synctest.Wait()
		began := time.Now()
		x.draining(t.Context(), []Partition{{"orders", 0}})
		if time.Since(began) != time.Second || m.all() != "abort" {
			t.Errorf("it was given up after %v, transactions: %s", time.Since(began), m.all())
		}
		letPass(time.Minute)
		synctest.Wait()
		if err := x.stop(); err != nil || m.all() != "abort, commit 1:1" || s.mark(0) != 0 {
			t.Errorf("it ended with %v, transactions: %s", err, m.all())
		}
	})
}

func TestATransactionWithRecordsOfALostPartitionIsAbortedAndTheOthersAreHandledAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFedSource(append(orders(0, 0, "a"), orders(1, 0, "b")...))
		m := &madeTxns{}
		var got []string
		x := startTxns(t, s, ConsumerConfig{}, m,
			func(ctx context.Context, _ *Transaction, rs []*Record) error {
				if got = append(got, keysOf(rs)); len(got) > 1 {
					return nil
				}
				<-ctx.Done()
				return ctx.Err()
			})
		synctest.Wait()
		x.lost([]Partition{{"orders", 0}})
		synctest.Wait()
		if err := x.stop(); err != nil || m.all() != "abort, commit 1:1" ||
			fmt.Sprint(got) != "[ab b]" {
			t.Errorf("it ended with %v, transactions: %s, handled %v", err, m.all(), got)
		}
	})
}

func TestTheEndOfTheContextEndsTheTransactionUnderWay(t *testing.T) {
	for _, test := range []struct {
		name, did string
		result    error
		rewound   int
	}{
		{"handled", "commit 0:1", nil, 0},
		{"not handled", "abort", errDown, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFedSource(orders(0, 0, "a"))
				m := &madeTxns{}
				x := startTxns(t, s, ConsumerConfig{}, m,
					func(ctx context.Context, _ *Transaction, rs []*Record) error {
						<-ctx.Done()
						return test.result
					})
				synctest.Wait()
				if err := x.stop(); err != nil || m.all() != test.did || len(s.rewound) != test.rewound {
					t.Errorf("it ended with %v, transactions: %s, rewound %v", err, m.all(), s.rewound)
				}
			})
		})
	}
}
