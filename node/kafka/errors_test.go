package kafka

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
)

// sentinels returns the names of the errors that messages, group and txn declare.
func sentinels(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, path := range []string{"errors.go", "group/group.go", "txn/txn.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), "../../messages/"+path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if v, ok := n.(*ast.ValueSpec); ok {
				for _, name := range v.Names {
					if strings.HasPrefix(name.Name, "Err") {
						names = append(names, path+":"+name.Name)
					}
				}
			}
			return true
		})
	}
	return names
}

func TestEverySentinelErrorHasAKafkaCode(t *testing.T) {
	covered := 0
	for _, e := range errorCodes {
		if e.err != context.Canceled && e.err != context.DeadlineExceeded {
			covered++
		}
		if got := errorCode(fmt.Errorf("wrapped: %w", e.err)); got != e.code {
			t.Errorf("%v: code %d, want %d", e.err, got, e.code)
		}
		if e.code == codeNone || e.code == codeUnknownServerError {
			t.Errorf("%v has the code %d", e.err, e.code)
		}
	}
	if names := sentinels(t); len(names) != covered {
		t.Errorf("messages, group and txn declare %d errors, %d have codes: %v",
			len(names), covered, names)
	}
}

func TestErrorCodes(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		code int16
	}{
		{"no error is none", nil, 0},
		{"an error nobody knows is the server's", errors.New("?"), -1},
		{"damage on our own disk is not the producer's fault",
			fmt.Errorf("segment 7: %w: %w", messages.ErrStorage, messages.ErrCorruptBatch), 56},
		{"nor what a client would be told of such a batch",
			fmt.Errorf("segment 7: %w: %w", messages.ErrStorage, messages.ErrInvalidRecord), 56},
		{"a bad record in a batch", &record.RecordErrors{Err: messages.ErrInvalidRecord,
			Records: []record.RecordError{{}}}, 87},
		{"a bad time in a batch", &record.RecordErrors{Err: messages.ErrInvalidTimestamp,
			Records: []record.RecordError{{}}}, 32},
		{"a deadline", context.DeadlineExceeded, 7},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := errorCode(tt.err); got != tt.code {
				t.Errorf("code %d, want %d", got, tt.code)
			}
		})
	}
}

func TestFetchAnswersOnlyWhatJavaConsumersAccept(t *testing.T) {
	// Any other code makes poll() throw IllegalStateException; 76 goes only to
	// clients that are too old for zstd.
	accepted := []int16{0, 6, 9, 56, 74, 78, 3, 100, 103, 1, 29, 75, -1, 2, 76}
	errs := []error{errors.New("?"), context.Canceled}
	for _, e := range errorCodes {
		errs = append(errs, e.err)
	}
	for _, err := range errs {
		for version := int16(4); version <= 16; version++ {
			code := fetchErrorCode(err, version)
			if code == codeNone || !slices.Contains(accepted, code) {
				t.Errorf("%v in version %d: code %d", err, version, code)
			}
			if code == codeStorageError && version <= 5 {
				t.Errorf("version %d does not know KAFKA_STORAGE_ERROR", version)
			}
		}
	}
}

func TestProduceAnswersWhatProducersRetry(t *testing.T) {
	for _, tt := range []struct {
		err  error
		code int16
	}{
		{messages.ErrUnavailable, 6}, {messages.ErrOverloaded, 7}, {messages.ErrDiskFull, 56},
		{context.Canceled, 7}, {nil, 0}, {messages.ErrNotEnoughReplicas, 19},
	} {
		if got := produceErrorCode(tt.err); got != tt.code {
			t.Errorf("%v: code %d, want %d", tt.err, got, tt.code)
		}
	}
}
