//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"encoding/json"
	"path/filepath"
	"runtime/pprof"
	"testing"
	"time"
)

func TestZZProf(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	cmd := exec.Command("../bin/troupe", "start", "--data-dir", dir, "--kafka-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--actor-addr", "127.0.0.1:0", "--set", "http.pprof.enable=true")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil { t.Fatal(err) }
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	var a struct{ Kafka, HTTP, Actor string }
	for {
		b, err := os.ReadFile(filepath.Join(dir, "troupe.addr"))
		if err == nil && json.Unmarshal(b, &a) == nil && a.Kafka != "" { break }
		time.Sleep(10 * time.Millisecond)
	}
	b := &broker{addr: a.Kafka, actor: a.Actor, cmd: cmd}
	l := newSDKLoad(1536 << 20)
	for _, what := range []string{"sdkproduce", "sdkconsume", "sdkconsume", "franzconsume"} {
		if what == "sdkproduce" {
			if _, err := createTopic(ctx, b.addr, "x", sdkPartitions); err != nil { t.Fatal(err) }
		}
		f := map[string]func(context.Context, *broker, string, *sdkLoad) (time.Time, error){"sdkproduce": sdkProduce, "sdkconsume": sdkConsume, "franzconsume": franzConsume}[what]
		own, _ := os.Create("/tmp/w/proofkeep/" + what + ".client.prof")
		pprof.StartCPUProfile(own)
		done := make(chan struct{})
		go func() {
			defer close(done)
			r, err := http.Get("http://" + a.HTTP + "/debug/pprof/profile?seconds=3")
			if err != nil { t.Error(err); return }
			defer r.Body.Close()
			o, _ := os.Create("/tmp/w/proofkeep/" + what + ".node.prof")
			io.Copy(o, r.Body)
			o.Close()
		}()
		r, err := runLibrary(ctx, b, "x", l, f)
		pprof.StopCPUProfile()
		own.Close()
		if err != nil { t.Fatal(err) }
		<-done
		fmt.Println(what, r.perSecond, r.cpu(l), r.allocs)
	}
}
