package primitive

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kbin"

	"github.com/troupelog/troupe/messages/invariant"
)

var errDamaged = errors.New("record is damaged")

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func reader(b []byte, e Encoding) *Reader {
	r := NewReader(b, errDamaged)
	r.SetEncoding(e)
	return r
}

func TestPrimitivesAreKafkas(t *testing.T) {
	long := strings.Repeat("x", 300)
	longHex := strings.Repeat("78", 300)
	for name, tt := range map[string]struct {
		enc    Encoding
		append func(b []byte) []byte
		bytes  string
		read   func(r *Reader) any
		want   any
	}{
		"int8": {Classic, func(b []byte) []byte { return append(b, 0xfe) }, "fe",
			func(r *Reader) any { return r.Int8() }, int8(-2)},
		"int16": {Classic, func(b []byte) []byte { return AppendInt16(b, -2) }, "fffe",
			func(r *Reader) any { return r.Int16() }, int16(-2)},
		"int32": {Flexible, func(b []byte) []byte { return AppendInt32(b, 0x01020304) }, "01020304",
			func(r *Reader) any { return r.Int32() }, int32(0x01020304)},
		"int64": {Flexible, func(b []byte) []byte { return AppendInt64(b, math.MinInt64) },
			"8000000000000000", func(r *Reader) any { return r.Int64() }, int64(math.MinInt64)},
		"text": {Classic, func(b []byte) []byte { return Classic.AppendText(b, "ab") },
			"0002 6162", func(r *Reader) any { return r.Text() }, "ab"},
		"compact text": {Flexible, func(b []byte) []byte { return Flexible.AppendText(b, "ab") },
			"03 6162", func(r *Reader) any { return r.Text() }, "ab"},
		"long compact text": {Flexible,
			func(b []byte) []byte { return Flexible.AppendText(b, long) },
			"ad02" + longHex, func(r *Reader) any { return r.NullableText() }, long},
		"empty text": {Classic, func(b []byte) []byte { return Classic.AppendText(b, "") },
			"0000", func(r *Reader) any { return r.Text() }, ""},
		"null text": {Classic, func(b []byte) []byte { return Classic.AppendNullableText(b, "") },
			"ffff", func(r *Reader) any { return r.NullableText() }, ""},
		"compact null text": {Flexible,
			func(b []byte) []byte { return Flexible.AppendNullableText(b, "") },
			"00", func(r *Reader) any { return r.NullableText() }, ""},
		"nullable text": {Classic,
			func(b []byte) []byte { return Classic.AppendNullableText(b, "a") },
			"0001 61", func(r *Reader) any { return r.NullableText() }, "a"},
		"bytes": {Classic, func(b []byte) []byte { return Classic.AppendBytes(b, []byte{9}) },
			"00000001 09", func(r *Reader) any { return r.Bytes() }, []byte{9}},
		"compact bytes": {Flexible,
			func(b []byte) []byte { return Flexible.AppendBytes(b, []byte{9}) },
			"02 09", func(r *Reader) any { return r.Bytes() }, []byte{9}},
		"no bytes": {Flexible, func(b []byte) []byte { return Flexible.AppendBytes(b, nil) },
			"01", func(r *Reader) any { return r.Bytes() }, []byte{}},
		"texts": {Classic,
			func(b []byte) []byte { return Classic.AppendTexts(b, []string{"a", ""}) },
			"00000002 0001 61 0000", func(r *Reader) any { return r.Texts() }, []string{"a", ""}},
		"compact texts": {Flexible,
			func(b []byte) []byte { return Flexible.AppendTexts(b, []string{"a", ""}) },
			"03 0261 01", func(r *Reader) any { return r.Texts() }, []string{"a", ""}},
		"null array": {Classic, func(b []byte) []byte { return Classic.AppendCount(b, -1) },
			"ffffffff", func(r *Reader) any { return r.Count(1) }, 0},
		"compact null array": {Flexible, func(b []byte) []byte { return Flexible.AppendCount(b, -1) },
			"00", func(r *Reader) any { return r.Texts() }, []string(nil)},
		"no tagged fields": {Flexible, func(b []byte) []byte { return Flexible.AppendTags(b, 0) },
			"00", func(r *Reader) any { r.Tags(nil); return nil }, nil},
		"no tagged fields where none can be": {Classic,
			func(b []byte) []byte { return Classic.AppendTags(b, 0) },
			"", func(r *Reader) any { r.Tags(nil); return nil }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			want := unhex(t, tt.bytes)
			if got := tt.append([]byte("before")); !bytes.Equal(got[6:], want) {
				t.Errorf("written as % x, want % x", got[6:], want)
			}
			r := reader(want, tt.enc)
			if got := tt.read(r); !reflect.DeepEqual(got, tt.want) || r.End() != nil {
				t.Errorf("read %#v, %v, want %#v", got, r.End(), tt.want)
			}
			for n := range want {
				r := reader(want[:n], tt.enc)
				got := tt.read(r)
				if !errors.Is(r.End(), errDamaged) {
					t.Errorf("the first %d bytes are read as %#v, %v", n, got, r.End())
				}
			}
		})
	}
}

func TestWhatCannotBeIsDamaged(t *testing.T) {
	tooLong := string(Flexible.AppendCount(nil, MaxText+1)) + strings.Repeat("x", MaxText+1)
	for name, tt := range map[string]struct {
		enc   Encoding
		bytes string
		read  func(r *Reader)
	}{
		"text of no length":             {Classic, "", func(r *Reader) { r.Text() }},
		"text that is null":             {Classic, "ffff", func(r *Reader) { r.Text() }},
		"compact text that is null":     {Flexible, "00", func(r *Reader) { r.Text() }},
		"text in an array that is null": {Flexible, "02 00", func(r *Reader) { r.Texts() }},
		"text of a negative length":     {Classic, "fffe 00", func(r *Reader) { r.NullableText() }},
		"text that is too long": {Flexible, hex.EncodeToString([]byte(tooLong)),
			func(r *Reader) { r.Text() }},
		"bytes that are null":         {Classic, "ffffffff", func(r *Reader) { r.Bytes() }},
		"bytes of a negative length":  {Classic, "80000000", func(r *Reader) { r.Bytes() }},
		"array of a negative length":  {Classic, "fffffffe", func(r *Reader) { r.Count(1) }},
		"array that is too long":      {Classic, "00000002 00 00 00", func(r *Reader) { r.Count(2) }},
		"array of 2^31":               {Classic, "7fffffff 00", func(r *Reader) { r.Count(1) }},
		"compact array of 2^32":       {Flexible, "ffffffff0f 00", func(r *Reader) { r.Count(1) }},
		"varint of more than 32 bits": {Flexible, "ffffffff7f", func(r *Reader) { r.Count(1) }},
		"varint of more than 5 bytes": {Flexible, "818080808000", func(r *Reader) { r.Count(1) }},
		"varint without end":          {Flexible, "ffff", func(r *Reader) { r.Count(1) }},
		"more tags than can be":       {Flexible, "02 00 00 00", func(r *Reader) { r.Tags(nil) }},
		"tag that is cut":             {Flexible, "01 00 03 0000", func(r *Reader) { r.Tags(nil) }},
		"tag of 2^31":                 {Flexible, "01 8080808008 00", func(r *Reader) { r.Tags(nil) }},
		"taken backwards":             {Classic, "00", func(r *Reader) { r.Take(-1) }},
		"what the caller calls damaged": {Classic, "0000",
			func(r *Reader) { r.Fail("no %d", r.Int16()) }},
	} {
		t.Run(name, func(t *testing.T) {
			r := reader(unhex(t, tt.bytes), tt.enc)
			if tt.read(r); !errors.Is(r.Err(), errDamaged) || r.End() != r.Err() {
				t.Fatal(r.Err(), r.End())
			}
			if r.Int8() != 0 || r.Int16() != 0 || r.Int32() != 0 || r.Int64() != 0 ||
				r.Text() != "" || r.NullableText() != "" || r.Texts() != nil || r.Bytes() != nil ||
				r.Count(1) != 0 || r.Take(0) != nil || r.Rest() != nil {
				t.Error("a failed reader gives more than zeros")
			}
			r.Tags(func(int, *Reader) { t.Error("a failed reader has tagged fields") })
		})
	}
}

func TestWhatIsLeftOverIsDamage(t *testing.T) {
	r := reader([]byte{0, 1, 2}, Classic)
	v := r.Int16()
	if v != 1 || r.Err() != nil || !errors.Is(r.End(), errDamaged) || !errors.Is(r.Err(), errDamaged) {
		t.Errorf("%d, %v", v, r.Err())
	}
}

func TestTagsThatCannotAllBeThereAreNotBegun(t *testing.T) {
	r := reader([]byte{2, 0, 0, 0}, Flexible)
	r.Tags(func(int, *Reader) { t.Error("a tagged field is read") })
	if !errors.Is(r.Err(), errDamaged) {
		t.Error(r.Err())
	}
}

func TestTheFirstErrorIsTheOneThatIsTold(t *testing.T) {
	r := reader([]byte{0}, Classic)
	r.Int64()
	first := r.Err()
	r.Fail("something else")
	r.Text()
	if r.Err() != first || r.End() != first || !strings.Contains(first.Error(), "8 bytes") {
		t.Errorf("%v, then %v", first, r.End())
	}
}

func TestTaggedFieldsThatAreNotReadAreDropped(t *testing.T) {
	b := Flexible.AppendTags(nil, 3)
	b = AppendInt64(AppendTag(b, 0, 8), 7)
	b = append(AppendTag(b, 1, 3), "new"...)
	b = AppendInt16(AppendTag(b, 300, 2), 5)
	if want := "03 00 08 0000000000000007 01 03 6e6577 ac02 02 0005"; !bytes.Equal(b, unhex(t, want)) {
		t.Fatalf("written as % x, want %s", b, want)
	}
	b = append(b, 0xff)
	var first int64
	var last int16
	r := reader(b, Flexible)
	r.Tags(func(tag int, field *Reader) {
		switch tag {
		case 0:
			first = field.Int64()
		case 300:
			last = field.Int16()
		}
	})
	if v := r.Int8(); first != 7 || last != 5 || v != -1 || r.End() != nil {
		t.Errorf("read %d, %d, %d, %v", first, last, v, r.End())
	}
	r = reader(b, Flexible)
	r.Tags(nil)
	if v := r.Int8(); v != -1 || r.End() != nil {
		t.Errorf("read %d, %v after fields that nobody reads", v, r.End())
	}
}

func TestATaggedFieldIsAsLongAsItSays(t *testing.T) {
	for name, size := range map[string]int{"short": 7, "long": 9, "empty": 0} {
		b := AppendTag(Flexible.AppendTags(nil, 2), 4, size)
		b = append(b, make([]byte, size)...)
		b = AppendTag(b, 5, 0)
		r := reader(b, Flexible)
		r.Tags(func(tag int, field *Reader) {
			if tag != 4 {
				t.Errorf("%s: tag %d is read after damage", name, tag)
			}
			field.Int64()
		})
		err := r.End()
		if !errors.Is(err, errDamaged) || !strings.Contains(err.Error(), "tagged field 4") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStructuresInTaggedFieldsAreFlexible(t *testing.T) {
	b := append(AppendTag(Flexible.AppendTags(nil, 1), 0, 2), 2, 'x')
	r, got := reader(b, Flexible), ""
	r.Tags(func(_ int, field *Reader) { got = field.Text() })
	if got != "x" || r.End() != nil {
		t.Errorf("%q, %v", got, r.End())
	}
}

func TestWhatIsReadIsTheCallersOwn(t *testing.T) {
	b := Classic.AppendBytes(Classic.AppendText(nil, "text"), []byte("bytes"))
	r := reader(b, Classic)
	text, copied := r.Text(), r.Bytes()
	clear(b)
	if text != "text" || string(copied) != "bytes" {
		t.Errorf("%q and %q have changed with the record", text, copied)
	}
	b = []byte("abc")
	if taken := append(reader(b, Classic).Take(1), 'z'); b[1] != 'b' {
		t.Errorf("appending to %q wrote into the record: %q", taken, b)
	}
}

func TestWhatCannotBeWrittenIsABug(t *testing.T) {
	for name, write := range map[string]func(){
		"a text that is too long": func() { Flexible.AppendText(nil, strings.Repeat("x", MaxText+1)) },
		"an array of -2":          func() { Classic.AppendCount(nil, -2) },
		"a tag where none can be": func() { Classic.AppendTags(nil, 1) },
		"elements of nothing":     func() { reader(nil, Classic).Count(0) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if _, ok := recover().(invariant.Violation); !ok {
					t.Error("it goes through")
				}
			}()
			write()
		})
	}
}

// op is one read: from our Reader, from another implementation of Kafka's
// primitives, and the value written again.
type op struct {
	ours   func(r *Reader) any
	theirs func(r *kbin.Reader, e Encoding) any
	append func(b []byte, e Encoding, v any) []byte
}

var ops = []op{
	{func(r *Reader) any { return r.Int8() },
		func(r *kbin.Reader, _ Encoding) any { return r.Int8() },
		func(b []byte, _ Encoding, v any) []byte { return append(b, byte(v.(int8))) }},
	{func(r *Reader) any { return r.Int16() },
		func(r *kbin.Reader, _ Encoding) any { return r.Int16() },
		func(b []byte, _ Encoding, v any) []byte { return AppendInt16(b, v.(int16)) }},
	{func(r *Reader) any { return r.Int32() },
		func(r *kbin.Reader, _ Encoding) any { return r.Int32() },
		func(b []byte, _ Encoding, v any) []byte { return AppendInt32(b, v.(int32)) }},
	{func(r *Reader) any { return r.Int64() },
		func(r *kbin.Reader, _ Encoding) any { return r.Int64() },
		func(b []byte, _ Encoding, v any) []byte { return AppendInt64(b, v.(int64)) }},
	{func(r *Reader) any { return r.Text() }, theirText,
		func(b []byte, e Encoding, v any) []byte { return e.AppendText(b, v.(string)) }},
	{func(r *Reader) any { return r.NullableText() }, theirText,
		func(b []byte, e Encoding, v any) []byte { return e.AppendNullableText(b, v.(string)) }},
	{func(r *Reader) any { return string(r.Bytes()) }, theirBytes,
		func(b []byte, e Encoding, v any) []byte { return e.AppendBytes(b, []byte(v.(string))) }},
	{func(r *Reader) any { return r.Texts() },
		func(r *kbin.Reader, e Encoding) any {
			var list []string
			for range theirCount(r, e) {
				list = append(list, theirText(r, e).(string))
			}
			return list
		},
		func(b []byte, e Encoding, v any) []byte { return e.AppendTexts(b, v.([]string)) }},
}

func theirText(r *kbin.Reader, e Encoding) any {
	var s *string
	if e == Flexible {
		s = r.CompactNullableString()
	} else {
		s = r.NullableString()
	}
	if s == nil {
		return ""
	}
	return *s
}

func theirBytes(r *kbin.Reader, e Encoding) any {
	if e == Flexible {
		return string(r.CompactBytes())
	}
	return string(r.Bytes())
}

func theirCount(r *kbin.Reader, e Encoding) int32 {
	if e == Flexible {
		return r.CompactArrayLen()
	}
	return r.ArrayLen()
}

// A script says what to read; whatever is read without an error is what another
// implementation reads, and is read again from what the appenders make of it.
func FuzzReader(f *testing.F) {
	whole := func(e Encoding) []byte {
		b := AppendInt64(AppendInt32(AppendInt16([]byte{1}, 2), 3), 4)
		b = e.AppendNullableText(e.AppendText(b, "text"), "")
		return e.AppendTexts(e.AppendBytes(b, []byte("bytes")), []string{"a", "b"})
	}
	all := []byte{0, 1, 2, 3, 4, 5, 6, 7}
	f.Add(all, whole(Classic), false)
	f.Add(all, whole(Flexible), true)
	f.Add([]byte{7}, []byte{0x7f, 0xff, 0xff, 0xff, 0}, false)
	f.Add([]byte{7, 6}, []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0}, true)
	f.Fuzz(func(t *testing.T, script, record []byte, flexible bool) {
		e := Encoding(flexible)
		r, theirs := reader(record, e), &kbin.Reader{Src: record}
		var read []any
		var again []byte
		for _, s := range script {
			o := ops[int(s)%len(ops)]
			v := o.ours(r)
			if r.Err() != nil {
				break
			}
			if twin := o.theirs(theirs, e); !reflect.DeepEqual(v, twin) {
				t.Fatalf("operation %d reads %#v, the twin %#v", s, v, twin)
			}
			read, again = append(read, v), o.append(again, e, v)
		}
		if r.Err() != nil && !errors.Is(r.Err(), errDamaged) {
			t.Fatal(r.Err())
		}
		r = reader(again, e)
		for i, want := range read {
			if v := ops[int(script[i])%len(ops)].ours(r); !reflect.DeepEqual(v, want) {
				t.Fatalf("%#v is read back as %#v, %v", want, v, r.Err())
			}
		}
		if err := r.End(); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzTags(f *testing.F) {
	f.Add(AppendInt64(AppendTag(Flexible.AppendTags(nil, 1), 0, 8), 1))
	f.Add([]byte{3, 0, 1, 'x', 1, 0, 2, 2, 'y', 'z'})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x07})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := reader(b, Flexible)
		n := 0
		var again []byte
		r.Tags(func(tag int, field *Reader) {
			n++
			value := field.Rest()
			again = append(AppendTag(again, tag, len(value)), value...)
		})
		if err := r.End(); err != nil {
			if !errors.Is(err, errDamaged) {
				t.Fatal(err)
			}
			return
		}
		again = append(Flexible.AppendTags(nil, n), again...)
		if len(again) > len(b) {
			t.Fatalf("%d bytes are read from %d", len(again), len(b))
		}
		r = reader(again, Flexible)
		r.Tags(nil)
		if err := r.End(); err != nil {
			t.Fatalf("% x is written as % x: %v", b, again, err)
		}
	})
}
