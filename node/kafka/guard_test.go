package kafka

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// everyVersion runs f for each version of each API that is served.
func everyVersion(t *testing.T, f func(t *testing.T, a *api, version int16)) {
	t.Helper()
	for i := range apis {
		for v := apis[i].accepts; v <= apis[i].max; v++ {
			t.Run(fmt.Sprintf("%s v%d", apis[i].name, v), func(t *testing.T) { f(t, &apis[i], v) })
		}
	}
}

// fill sets every field of a kmsg struct to something random: lengths from 0 to
// 3, a null now and then where the protocol has one.
func fill(r *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			if f := v.Field(i); f.CanSet() && name != "Version" && name != "UnknownTags" {
				fill(r, f)
			}
		}
		if tags := v.FieldByName("UnknownTags"); tags.IsValid() && r.IntN(4) == 0 {
			tags.Addr().Interface().(*kmsg.Tags).Set(uint32(40+r.IntN(9)), randomBytes(r))
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(randomBytes(r))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), r.IntN(4), 4))
		for i := range v.Len() {
			e := v.Index(i)
			if d, ok := e.Addr().Interface().(interface{ Default() }); ok {
				d.Default()
			}
			fill(r, e)
		}
	case reflect.Pointer:
		if r.IntN(4) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(r, v.Elem())
		}
	case reflect.Array:
		for i := range v.Len() {
			v.Index(i).SetUint(r.Uint64() & 0xff)
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("text-%x", randomBytes(r)))
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(r.Uint64()) >> r.IntN(64))
	default:
		panic("no rule for " + v.Type().String())
	}
}

func randomBytes(r *rand.Rand) []byte {
	b := make([]byte, r.IntN(20))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// randomRequest returns a random request and its bytes as the guard sees them:
// header tags, then body.
func randomRequest(r *rand.Rand, key, version int16) (kmsg.Request, []byte) {
	req := kmsg.RequestForKey(key)
	req.SetVersion(version)
	fill(r, reflect.ValueOf(req).Elem())
	req.SetVersion(version)
	if key == 3 && version >= 1 && version <= 9 { // a null name needs v10
		for i := range req.(*kmsg.MetadataRequest).Topics {
			req.(*kmsg.MetadataRequest).Topics[i].Topic = kmsg.StringPtr("t")
		}
	}
	var b []byte
	if req.IsFlexible() {
		b = append(b, 0)
	}
	return req, req.AppendTo(b)
}

func TestGuardAcceptsWhateverAClientEncodes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	everyVersion(t, func(t *testing.T, a *api, version int16) {
		shape := schemas[a.key].shape(version)
		for range 200 {
			req, b := randomRequest(r, a.key, version)
			body, memory, err := shape.check(b)
			if err != nil {
				t.Fatalf("guard refuses %x of %+v: %v", b, req, err)
			}
			if memory < len(b) {
				t.Fatalf("memory of %d bytes is %d", len(b), memory)
			}
			again := kmsg.RequestForKey(a.key)
			again.SetVersion(version)
			if err := again.ReadFrom(body); err != nil {
				t.Fatalf("kmsg refuses what the guard accepts: %v", err)
			}
			if got := again.AppendTo(nil); !bytes.Equal(got, body) {
				t.Fatalf("decoded and encoded again\n got %x\nwant %x", got, body)
			}
		}
	})
}

func TestEveryAPIHasASchemaWithTheFlexibleVersionOfKafka(t *testing.T) {
	everyVersion(t, func(t *testing.T, a *api, version int16) {
		if _, ok := schemas[a.key]; !ok {
			t.Fatal("no schema")
		}
		req := kmsg.RequestForKey(a.key)
		req.SetVersion(version)
		if got := schemas[a.key].shape(version).flexible; got != req.IsFlexible() {
			t.Fatalf("flexible = %v, kmsg says %v", got, req.IsFlexible())
		}
	})
	if len(schemas) != len(apis) {
		t.Fatalf("%d schemas for %d apis", len(schemas), len(apis))
	}
}

func TestGuardRefusesEveryTruncation(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	everyVersion(t, func(t *testing.T, a *api, version int16) {
		shape := schemas[a.key].shape(version)
		for range 10 {
			_, b := randomRequest(r, a.key, version)
			for n := range b {
				if _, _, err := shape.check(b[:n]); err == nil {
					t.Fatalf("accepted %d of %d bytes of %x", n, len(b), b)
				}
			}
			// Real clients send bytes too many; they are cut off.
			body, _, err := shape.check(append(b, 0xff, 0, 0xff))
			if exact, _, _ := shape.check(b); err != nil || !bytes.Equal(body, exact) {
				t.Fatalf("with trailing bytes: %v, body of %d bytes, not %d", err, len(body), len(exact))
			}
		}
	})
}

func TestGuardRefusesHostileRequests(t *testing.T) {
	for _, tt := range []struct {
		name    string
		key     int16
		version int16
		body    []byte
		err     error
	}{
		{"a tag count that would keep kmsg busy for a minute", 0, 9,
			[]byte{0, 0, 0, 1, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0x0f}, errTagCount},
		{"a header tag count beyond the bytes", 3, 9,
			[]byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0}, errTagCount},
		{"an array of more elements than bytes", 3, 9,
			[]byte{0, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0}, errTooMany},
		{"an array whose elements cannot fit", 1, 12, append(append([]byte{0},
			make([]byte, 25)...), 100, 0, 0, 0, 0, 0), errTooMany},
		{"more elements than a request may have", 3, 1, append([]byte{0, 0x10, 0, 0},
			make([]byte, 1<<20*2)...), errElements},
		{"a null array where there is none", 3, 0, []byte{0xff, 0xff, 0xff, 0xff}, errNull},
		{"a null string where there is none", 10, 0, []byte{0xff, 0xff}, errNull},
		{"a null string in a compact encoding", 18, 3, []byte{0, 0, 0, 0}, errNull},
		{"a negative array length", 3, 1, []byte{0xff, 0xff, 0xff, 0xfe}, errNegative},
		{"a negative string length", 10, 0, []byte{0x80, 0}, errNegative},
		{"a string beyond the end", 10, 0, []byte{0x7f, 0xff, 'x'}, errCutShort},
		{"a compact string above Kafka's bound", 18, 3,
			append([]byte{0, 0x81, 0x80, 0x02}, make([]byte, 1<<15)...), errTooLong},
		{"a varint of more than 32 bits", 18, 3,
			[]byte{0, 0xff, 0xff, 0xff, 0xff, 0x7f}, errVarint},
		{"a varint without an end", 18, 3,
			[]byte{0, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, errVarint},
		{"tags that go back", 18, 3, []byte{0, 2, 'a', 2, 'b', 2, 9, 0, 8, 0}, errTagOrder},
		{"a tag twice", 18, 3, []byte{0, 2, 'a', 2, 'b', 2, 9, 0, 9, 0}, errTagOrder},
		{"a known tag with too many bytes", 1, 12, append(append([]byte{0},
			make([]byte, 25)...), 1, 1, 1, 1, 0, 3, 1, 0, 0), errTagSize},
		{"a cursor that is neither there nor null", 75, 0,
			[]byte{0, 1, 0, 0, 0, 1, 2, 0}, errPresence},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, _, err := schemas[tt.key].shape(tt.version).check(tt.body); !errors.Is(err, tt.err) {
				t.Fatalf("err = %v, want %v", err, tt.err)
			}
		})
	}
}

func TestGuardAllocatesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for i := range apis {
		a := &apis[i]
		shape := schemas[a.key].shape(a.max)
		_, b := randomRequest(r, a.key, a.max)
		if _, _, err := shape.check(b); err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { _, _, _ = shape.check(b) }); n != 0 {
			t.Errorf("%s v%d: %v allocations", a.name, a.max, n)
		}
	}
}

// FuzzRequestDecoders feeds any bytes through the guard and, if they pass, to
// kmsg: no panic, no error, and time and memory in proportion to the input.
func FuzzRequestDecoders(f *testing.F) {
	r := rand.New(rand.NewPCG(7, 8))
	for i := range apis {
		for v := apis[i].accepts; v <= apis[i].max; v++ {
			_, b := randomRequest(r, apis[i].key, v)
			f.Add(byte(i), byte(v), b)
		}
	}
	f.Add(byte(0), byte(9), []byte{0, 0, 0, 1, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, which, ver byte, b []byte) {
		a := &apis[int(which)%len(apis)]
		version := a.accepts + int16(ver)%(a.max-a.accepts+1)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		body, memory, err := schemas[a.key].shape(version).check(b)
		if err == nil {
			req := kmsg.RequestForKey(a.key)
			req.SetVersion(version)
			if err := req.ReadFrom(body); err != nil {
				t.Fatalf("%s v%d: kmsg refuses %x, which the guard accepts: %v", a.name, version, b, err)
			}
		}
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		// The fixed part is for the schema, the request itself and the fuzzer.
		used := after.TotalAlloc - before.TotalAlloc
		if limit := uint64(256<<10 + 4*memory); used > limit {
			t.Fatalf("%s v%d: %d bytes of input took %d bytes of memory", a.name, version, len(b), used)
		}
		if took > 5*time.Second {
			t.Fatalf("%s v%d: %d bytes of input took %v", a.name, version, len(b), took)
		}
	})
}
