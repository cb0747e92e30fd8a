package cli

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

// formatValue is the format of consume unless told: values, one a line.
const formatValue = `%v\n`

// printer appends a record's text to b.
type printer func(b []byte, r *kgo.Record) []byte

// parseFormat reads --format: "json" for one JSON object a line, or a text with
// these tokens (those of kcat, and %v):
//
//	%t topic      %p partition   %o offset     %T timestamp in milliseconds
//	%k key        %v, %s value   %h headers as k=v,k=v
//	%K, %S        length of the key and the value in bytes, -1 for null
//	%R            length of the value as 4 bytes, big-endian
//	%%            a percent sign
//
// and the escapes \n \r \t \0 \\ and \xHH. A null key or value prints nothing.
func parseFormat(s string) (printer, error) {
	if s == formatJSON {
		return appendJSON, nil
	}
	var parts []printer
	var text []byte
	flush := func() {
		if len(text) > 0 {
			literal := text
			parts = append(parts, func(b []byte, _ *kgo.Record) []byte { return append(b, literal...) })
			text = nil
		}
	}
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\':
			c, n, err := escape(s[i:])
			if err != nil {
				return nil, &usageError{"--format: " + err.Error(), "see troupe consume --help"}
			}
			text = append(text, c)
			i += n - 1
		case s[i] == '%' && i+1 < len(s) && s[i+1] == '%':
			text = append(text, '%')
			i++
		case s[i] == '%':
			flush()
			part, ok := tokens[strings.TrimPrefix(s[i:min(i+2, len(s))], "%")]
			if !ok {
				return nil, &usageError{fmt.Sprintf("--format has an unknown token %q",
					s[i:min(i+2, len(s))]), "use %t %p %o %k %v %h %T %K %S %R or %%"}
			}
			parts = append(parts, part)
			i++
		default:
			text = append(text, s[i])
		}
	}
	flush()
	return func(b []byte, r *kgo.Record) []byte {
		for _, p := range parts {
			b = p(b, r)
		}
		return b
	}, nil
}

var tokens = map[string]printer{
	"t": func(b []byte, r *kgo.Record) []byte { return append(b, r.Topic...) },
	"p": func(b []byte, r *kgo.Record) []byte { return strconv.AppendInt(b, int64(r.Partition), 10) },
	"o": func(b []byte, r *kgo.Record) []byte { return strconv.AppendInt(b, r.Offset, 10) },
	"T": func(b []byte, r *kgo.Record) []byte {
		return strconv.AppendInt(b, r.Timestamp.UnixMilli(), 10)
	},
	"k": func(b []byte, r *kgo.Record) []byte { return append(b, r.Key...) },
	"v": appendValue,
	"s": appendValue,
	"h": appendHeaders,
	"K": func(b []byte, r *kgo.Record) []byte { return strconv.AppendInt(b, length(r.Key), 10) },
	"S": func(b []byte, r *kgo.Record) []byte { return strconv.AppendInt(b, length(r.Value), 10) },
	"R": func(b []byte, r *kgo.Record) []byte {
		return binary.BigEndian.AppendUint32(b, uint32(length(r.Value)))
	},
}

func appendValue(b []byte, r *kgo.Record) []byte { return append(b, r.Value...) }

func appendHeaders(b []byte, r *kgo.Record) []byte {
	for i, h := range r.Headers {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, h.Key...)
		b = append(b, '=')
		b = append(b, h.Value...)
	}
	return b
}

// length is what the wire says: -1 for null.
func length(b []byte) int64 {
	if b == nil {
		return -1
	}
	return int64(len(b))
}

// unescape reads the escapes of a flag's value; an empty one gives nil.
func unescape(flag, s string) ([]byte, error) {
	var out []byte
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			out = append(out, s[i])
			continue
		}
		c, n, err := escape(s[i:])
		if err != nil {
			return nil, &usageError{flag + ": " + err.Error(), "write a backslash as \\\\"}
		}
		out = append(out, c)
		i += n - 1
	}
	return out, nil
}

// escape reads one escape at the start of s and returns its byte and its length.
func escape(s string) (c byte, n int, err error) {
	if len(s) >= 2 {
		switch s[1] {
		case 'n':
			return '\n', 2, nil
		case 'r':
			return '\r', 2, nil
		case 't':
			return '\t', 2, nil
		case '0':
			return 0, 2, nil
		case '\\':
			return '\\', 2, nil
		case 'x':
			if len(s) >= 4 {
				if v, err := strconv.ParseUint(s[2:4], 16, 8); err == nil {
					return byte(v), 4, nil
				}
			}
		}
	}
	return 0, 0, fmt.Errorf("unknown escape %q", s[:min(len(s), 4)])
}

// jsonRecord is a record as --format json prints it. Bytes that are not UTF-8
// are in base64, and the encoding field beside them says so; null stays null.
type jsonRecord struct {
	Topic         string       `json:"topic"`
	Partition     int32        `json:"partition"`
	Offset        int64        `json:"offset"`
	Timestamp     int64        `json:"timestamp"` // milliseconds since the Unix epoch
	Key           *string      `json:"key"`
	KeyEncoding   string       `json:"keyEncoding,omitempty"`
	Value         *string      `json:"value"`
	ValueEncoding string       `json:"valueEncoding,omitempty"`
	Headers       []jsonHeader `json:"headers"`
}

type jsonHeader struct {
	Key           string  `json:"key"`
	Value         *string `json:"value"`
	ValueEncoding string  `json:"valueEncoding,omitempty"`
}

func appendJSON(b []byte, r *kgo.Record) []byte {
	j := jsonRecord{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset,
		Timestamp: r.Timestamp.UnixMilli(), Headers: make([]jsonHeader, len(r.Headers))}
	j.Key, j.KeyEncoding = jsonBytes(r.Key)
	j.Value, j.ValueEncoding = jsonBytes(r.Value)
	for i, h := range r.Headers {
		j.Headers[i].Key = h.Key
		j.Headers[i].Value, j.Headers[i].ValueEncoding = jsonBytes(h.Value)
	}
	text, err := json.Marshal(&j)
	must(err) // strings and integers always have a JSON form
	return append(append(b, text...), '\n')
}

func jsonBytes(b []byte) (text *string, encoding string) {
	if b == nil {
		return nil, ""
	}
	if utf8.Valid(b) {
		s := string(b)
		return &s, ""
	}
	s := base64.StdEncoding.EncodeToString(b)
	return &s, "base64"
}
