package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/troupelog/troupe/messages"
	"github.com/troupelog/troupe/messages/record"
	"github.com/troupelog/troupe/persistence/segment"
	"github.com/troupelog/troupe/persistence/vfs"
)

func newLog(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Look into log files on disk, without a node",
		Long: `Log looks into the files of a data directory. It only reads, and needs no node;
the files of a running one may be looked at too.`,
		Example: `  troupe log dump data/orders-0/00000000000000000000.log
  troupe log check data`,
	}
	cmd.AddCommand(newLogDump(g), newLogCheck(g))
	return group(cmd)
}

type dumpOptions struct {
	records bool
	offset  int64
}

func newLogDump(g *globals) *cobra.Command {
	var o dumpOptions
	cmd := &cobra.Command{
		Use:   "dump FILE",
		Short: "Print the batches of a log file",
		Long: `Dump prints what stands in a segment's .log file, one batch a line, and with
--records its records too. JSON is one object a line. A batch whose checksum is
wrong is printed and marked, and makes the command fail.`,
		Example: `  troupe log dump data/orders-0/00000000000000000000.log
  troupe log dump data/orders-0/00000000000000000000.log --records --offset 1000
  troupe log dump data/orders-0/00000000000000000000.log -o json`,
		Args: need(1, "the FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			out := bufio.NewWriterSize(cmd.OutOrStdout(), outputBuffer)
			d := &dumper{g: g, o: o, out: out}
			return errors.Join(d.dump(args[0]), out.Flush())
		},
	}
	cmd.Flags().BoolVar(&o.records, "records", false, "print the records of each batch too")
	cmd.Flags().Int64Var(&o.offset, "offset", 0, "begin with the batch that holds this offset")
	cmd.ValidArgsFunction = func(*cobra.Command, []string, string,
	) ([]string, cobra.ShellCompDirective) {
		return []string{"log"}, cobra.ShellCompDirectiveFilterFileExt
	}
	return cmd
}

// dumpedBatch is a batch as "log dump" prints it.
type dumpedBatch struct {
	Position      int64          `json:"position"` // bytes from the start of the file
	SizeBytes     int            `json:"sizeBytes"`
	BaseOffset    int64          `json:"baseOffset"`
	LastOffset    int64          `json:"lastOffset"`
	Count         int32          `json:"count"`
	Codec         string         `json:"codec"`
	LeaderEpoch   int32          `json:"leaderEpoch"`
	ProducerID    int64          `json:"producerId"` // -1: none
	ProducerEpoch int16          `json:"producerEpoch"`
	BaseSequence  int32          `json:"baseSequence"`
	BaseTimestamp int64          `json:"baseTimestamp"` // milliseconds since the Unix epoch
	MaxTimestamp  int64          `json:"maxTimestamp"`
	Transactional bool           `json:"transactional"`
	Control       bool           `json:"control"`
	Error         string         `json:"error,omitempty"`
	Records       []dumpedRecord `json:"records,omitempty"`
}

// dumpedRecord is a record as "log dump --records" prints it.
type dumpedRecord struct {
	Offset        int64        `json:"offset"`
	Timestamp     int64        `json:"timestamp"`
	Key           *string      `json:"key"`
	KeyEncoding   string       `json:"keyEncoding,omitempty"`
	Value         *string      `json:"value"`
	ValueEncoding string       `json:"valueEncoding,omitempty"`
	Headers       []jsonHeader `json:"headers"`
}

// dumper prints one file.
type dumper struct {
	g   *globals
	o   dumpOptions
	out *bufio.Writer
	bad int // batches that are damaged
}

// dumpColumns lays out a batch's line; the file is too long to measure first.
const dumpColumns = "%10s  %12s  %12s  %7s  %9s  %-6s  %5s  %-24s  %s\n"

func (d *dumper) dump(name string) error {
	if _, suffix, ok := segment.ParseFileName(filepath.Base(name)); ok &&
		suffix != segment.LogSuffix {
		return &failure{fmt.Sprintf("%s is an index or snapshot", name),
			"name the segment's .log file", nil}
	}
	info, err := vfs.OS{}.Stat(name)
	if err != nil {
		return &failure{err.Error(), "name the segment's .log file", err}
	}
	if d.g.output == formatTable {
		fmt.Fprintf(d.out, dumpColumns, "POSITION", "FIRST", "LAST", "RECORDS", "BYTES", "CODEC",
			"EPOCH", "TIME", "NOTE")
	}
	remedy := "see \"troupe log check " + filepath.Dir(name) + "\" for what it means"
	end := int64(0)
	for found, err := range segment.Batches(vfs.OS{}, filepath.ToSlash(name)) {
		var corrupt *segment.CorruptError
		if errors.As(err, &corrupt) {
			return &failure{fmt.Sprintf("%s: no batch at position %d: %v", name, corrupt.At,
				corrupt.Err), remedy, err}
		}
		if err != nil {
			return err
		}
		end = found.Position + int64(found.Batch.Size())
		if err := d.batch(&found); err != nil {
			return err
		}
	}
	if d.g.output == formatTable && end < info.Size() {
		fmt.Fprintf(d.out, "%10d  %s reserved for batches to come\n", end,
			plural(info.Size()-end, "byte"))
	}
	if d.bad > 0 {
		return &failure{fmt.Sprintf("%s: %s damaged", name, plural(int64(d.bad), "batch")),
			remedy, messages.ErrCorruptBatch}
	}
	return nil
}

func (d *dumper) batch(found *segment.Found) error {
	s, problem := &found.Batch, found.Bad
	if problem != nil {
		d.bad++
	}
	if int64(s.LastOffset()) < d.o.offset {
		return nil
	}
	b := dumpedBatch{
		Position: found.Position, SizeBytes: s.Size(),
		BaseOffset: int64(s.BaseOffset), LastOffset: int64(s.LastOffset()), Count: s.Count,
		Codec: s.Codec().String(), LeaderEpoch: int32(s.LeaderEpoch),
		ProducerID: int64(s.ProducerID), ProducerEpoch: int16(s.ProducerEpoch),
		BaseSequence:  int32(s.BaseSequence),
		BaseTimestamp: int64(s.BaseTimestamp), MaxTimestamp: int64(s.MaxTimestamp),
		Transactional: s.Transactional(), Control: s.Control(),
	}
	if problem == nil && d.o.records {
		if b.Records, problem = dumpRecords(s); problem != nil {
			d.bad++
		}
	}
	if problem != nil {
		b.Error = problem.Error()
	}
	if d.g.output == formatTable {
		return d.line(b)
	}
	if d.g.output == formatYAML {
		return printYAML(d.out, []dumpedBatch{b}) // one list after the other is one list
	}
	return json.NewEncoder(d.out).Encode(b)
}

func dumpRecords(b *record.Batch) ([]dumpedRecord, error) {
	var out []dumpedRecord
	for r, err := range record.Records(b, record.InflateLimit) {
		if err != nil {
			return out, err
		}
		d := dumpedRecord{Offset: int64(r.Offset), Timestamp: int64(r.Timestamp),
			Headers: []jsonHeader{}}
		d.Key, d.KeyEncoding = jsonBytes(r.Key)
		d.Value, d.ValueEncoding = jsonBytes(r.Value)
		for h := range r.RecordHeaders() {
			j := jsonHeader{Key: string(h.Key)}
			j.Value, j.ValueEncoding = jsonBytes(h.Value)
			d.Headers = append(d.Headers, j)
		}
		out = append(out, d)
	}
	return out, nil
}

// line prints a batch for people.
func (d *dumper) line(b dumpedBatch) error {
	var notes []string
	if b.Error != "" {
		notes = append(notes, "DAMAGED: "+b.Error)
	}
	if b.Control {
		notes = append(notes, "marker")
	}
	if b.ProducerID >= 0 {
		notes = append(notes, fmt.Sprintf("producer %d epoch %d sequence %d",
			b.ProducerID, b.ProducerEpoch, b.BaseSequence))
	}
	if b.Transactional {
		notes = append(notes, "transactional")
	}
	var line strings.Builder
	fmt.Fprintf(&line, dumpColumns, fmt.Sprint(b.Position), fmt.Sprint(b.BaseOffset),
		fmt.Sprint(b.LastOffset), fmt.Sprint(b.Count), fmt.Sprint(b.SizeBytes), b.Codec,
		fmt.Sprint(b.LeaderEpoch), timeText(b.MaxTimestamp), printable(strings.Join(notes, ", ")))
	_, err := fmt.Fprintln(d.out, strings.TrimRight(line.String(), " \n"))
	for _, r := range b.Records {
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(d.out, "%10s  %12d  %s  key %s  value %s%s\n", "", r.Offset,
			timeText(r.Timestamp), quoted(r.Key, r.KeyEncoding), quoted(r.Value, r.ValueEncoding),
			headerText(r.Headers))
	}
	return err
}

// timeText is a timestamp in UTC, to the millisecond.
func timeText(ms int64) string {
	if ms < 0 {
		return "-"
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
}

func quoted(text *string, encoding string) string {
	if text == nil {
		return "null"
	}
	if encoding != "" {
		return encoding + ":" + *text
	}
	return fmt.Sprintf("%q", *text)
}

func headerText(headers []jsonHeader) string {
	var out strings.Builder
	for _, h := range headers {
		fmt.Fprintf(&out, "  header %s=%s", printable(h.Key), quoted(h.Value, h.ValueEncoding))
	}
	return out.String()
}
