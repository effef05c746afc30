//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A file of settings may be a pipe. One signal ends a command that reads a pipe without a writer.
func TestASignalEndsAReaderOfSettings(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "fifo.yaml")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"run --config FILE -- true", "copy --config FILE a b", "s3 clean --config FILE s3://bikes", "status --config FILE", "status --watch --config FILE",
		"plan --config FILE", "plan --policy FILE", "simulate --policy FILE", "simulate --scenario FILE",
	} {
		c := start(t, command(t, nil, strings.Fields(strings.ReplaceAll(line, "FILE", pipe))...))
		w, err := os.OpenFile(pipe, os.O_WRONLY, 0) // waits until the command has opened it
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- c.Wait() }()
		if err := c.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		eventually(t, line+" ends", func() bool { return len(ended) > 0 })
		<-ended
		status, ok := c.ProcessState.Sys().(syscall.WaitStatus)
		if err := w.Close(); err != nil || !ok || status.Signal() != syscall.SIGTERM && c.ProcessState.ExitCode() != 143 {
			t.Errorf("%s: %v, %v", line, c.ProcessState, err)
		}
	}
}
