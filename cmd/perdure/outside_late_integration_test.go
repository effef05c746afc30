//go:build integration && unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// What is killed when the store has been asked for the object, and makes it, leaves
// nothing either, once the same command has run again.
func TestKilledAtTheLastRequest(t *testing.T) {
	for _, size := range []int{9 << 20, 17 << 20, 40 << 20} {
		for _, args := range [][]string{{"one", "s3://bikes/many/one"}, {"-r", ".", "s3://bikes/many"}} {
			t.Run(fmt.Sprint(size, args), func(t *testing.T) {
				s := newScene(t)
				content := generated(size)
				write(t, filepath.Join(s.dir, "one"), content)
				asked, made := make(chan struct{}), make(chan struct{})
				s.line.responses(func(_ http.ResponseWriter, r *http.Request) bool {
					if r.Method != http.MethodPost || !r.URL.Query().Has("uploadId") {
						return false
					}
					body, _ := io.ReadAll(r.Body)
					close(asked)
					later := r.Clone(context.WithoutCancel(r.Context()))
					later.Body = io.NopCloser(bytes.NewReader(body))
					s.line.behind.ServeHTTP(httptest.NewRecorder(), later)
					close(made)
					return true
				})
				last := len(args) - 2
				c := start(t, command(t, s.environ, slices.Concat([]string{"copy"}, args[:last], []string{filepath.Join(s.dir, args[last]), args[last+1]})...))
				<-asked
				_ = c.Process.Kill()
				_ = c.Wait() // it was killed
				<-made
				s.line.responses(nil)
				for range 2 {
					s.runs(t, 0, c.Args[2:]...)
					if got, _ := s.store.Object("bikes", "many/one"); !bytes.Equal(got, content) {
						t.Errorf("%d other bytes", len(got))
					}
					if left := (&mortal{scene: s}).stateLeft(t); len(left) > 0 || len(s.store.Uploads()) > 0 {
						t.Errorf("state %q and uploads %v are left", left, s.store.Uploads())
					}
				}
			})
		}
	}
}

// What is killed in the instant in which its file gets its name leaves nothing
// either, once the same command has run again.
func TestKilledWhenTheFileIsThere(t *testing.T) {
	for _, kind := range []string{"http", "s3", "-r"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			args := []string{"copy", s.from(t, kind, "x", generated(17<<20)), s.to("file", "x")}
			if kind == "-r" {
				s.from(t, "s3", "many/x", generated(17<<20))
				args = []string{"copy", "-r", "s3://bikes/many", s.dir}
			}
			for range 20 {
				c := start(t, command(t, s.environ, args...))
				ended := make(chan struct{})
				go func() { _ = c.Wait(); close(ended) }() // it is killed
				for there := false; !there; {
					select {
					case <-ended:
						there = true
					default:
						_, err := os.Lstat(s.to("file", "x"))
						there = err == nil
					}
				}
				_ = c.Process.Kill()
				<-ended
				if e := endOf(t, command(t, s.environ, args...)); e.code != 0 {
					t.Fatalf("%v", e)
				}
				sameAs(t, "there", below(t, s.dir), map[string]string{"x": string(generated(17 << 20))})
				if err := os.Remove(s.to("file", "x")); err != nil || t.Failed() {
					t.Fatal(err)
				}
			}
		})
	}
}
