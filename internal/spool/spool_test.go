package spool_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/spool"
)

func TestSpoolKeepsWhatFits(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	for _, tt := range []struct {
		memory, limit int64
		writes        []int
		kept          int64
		err           error
	}{
		{0, 0, []int{1}, 0, spool.ErrFull},
		{10, 0, []int{4, 6}, 10, nil},
		{10, 0, []int{4, 7}, 4, spool.ErrFull},
		{10, 100, []int{4, 7, 89}, 100, nil},
		{10, 100, []int{4, 7, 90}, 11, spool.ErrFull},
		{0, 100, []int{100}, 100, nil},
	} {
		s := spool.Spool{Memory: tt.memory, Limit: tt.limit}
		var want []byte
		var failure error
		for n, size := range tt.writes {
			p := bytes.Repeat([]byte{byte('a' + n)}, size)
			_, err := s.Write(p)
			if err == nil {
				want = append(want, p...)
			}
			failure = errors.Join(failure, err)
		}
		if !errors.Is(failure, tt.err) || s.Len() != tt.kept {
			t.Errorf("%+v: %d bytes kept, %v", tt, s.Len(), failure)
		}
		got := make([]byte, s.Len()+5)
		for offset := range s.Len() {
			if n, err := s.ReadAt(got, offset); err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(got[:n], want[offset:]) {
				t.Fatalf("%+v: at %d %q, %v; want %q", tt, offset, got[:n], err, want[offset:])
			}
		}
		if err := s.Close(); err != nil {
			t.Errorf("%+v: %v", tt, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("files %v left behind (%v)", left, err)
	}
}

func TestSpoolWithoutAPlaceForFiles(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "missing"))
	s := spool.Spool{Memory: 3, Limit: 10}
	if _, err := s.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte("d")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Write gave %v; want that of the missing directory", err)
	}
	p := make([]byte, 3)
	if n, err := s.ReadAt(p, 0); n != 3 || err != nil || string(p) != "abc" {
		t.Errorf("%q, %v; what was kept is gone", p[:n], err)
	}
}
