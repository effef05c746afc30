package download_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/seed-0f2c7998/perdure/httpretry/download"
	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
)

// A state file of an earlier process is used only if it is unaltered. A control character in its ETag used to fail each later
// download, and an altered name of its checksum field used to leave the file unverified.
func TestFileAfterAnAlteredState(t *testing.T) {
	want := content(6*part+1, 1)
	sum := sha256.Sum256(want)
	e := withHeader(resource(want, `"1"`), field("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":"))
	head, owner := begun(t, e, "*.state"), begun(t, e, "owner")
	head = head[:bytes.IndexByte(head, '\n')+1]
	type change struct {
		file string
		at   int
		flip byte // 0: the file ends there
	}
	var changes []change
	for at := range head {
		changes = append(changes, change{"*.state", at, 1})
		if at%16 == 0 { // it becomes a control character, the end of a line, no character at all, or the end
			changes = append(changes, change{"*.state", at, head[at]}, change{"*.state", at, head[at] ^ '\n'}, change{"*.state", at, 0xff}, change{"*.state", at, 0})
		}
	}
	for at := range owner {
		changes = append(changes, change{"owner", at, 1})
	}
	rounds(t, len(changes), func(round int, _ *rand.Rand) {
		c := changes[round]
		server, path, o := interrupted(t, e)
		defer server.Close()
		defer o.Client.CloseIdleConnections()
		alter(t, path, c.file, func(text []byte) []byte {
			at := min(c.at, bytes.IndexByte(text, '\n')) // its inode may have fewer digits than that of the first one
			if c.flip == 0 {
				return text[:at]
			}
			text[at] ^= c.flip
			return text
		})
		r, err := download.File(request(t, server), path, o)
		got, missing := os.ReadFile(path)
		if err := errors.Join(err, missing); err != nil || !bytes.Equal(got, want) || r.Verified != "sha256" || r.Resumed != 0 {
			t.Errorf("%+v: %v, %+v, %d bytes; want all bytes, from scratch and verified", c, err, r, len(got))
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".perdure-*")); len(left) > 0 {
			t.Errorf("%+v: %v is left", c, left)
		}
	})
}

// interrupted interrupts a download of e, and returns a server that serves e from then on, the path, and the options.
func interrupted(t *testing.T, e httptestfault.Resource) (*httptestfault.Server, string, download.Options) {
	t.Helper()
	server := httptestfault.New(func(n int, r *http.Request) httptestfault.Response {
		switch step := e.Respond(r); n {
		case 1:
			return step.With(httptestfault.CutBody(3 * part))
		case 2:
			return httptestfault.Response{Status: 404}
		default:
			return step
		}
	})
	path, o := filepath.Join(t.TempDir(), "file"), download.Options{Client: client(server), Piece: part, Parallel: -1}
	if _, err := download.File(request(t, server), path, o); err == nil {
		t.Error("no error of a download that was interrupted")
	}
	return server, path, o
}

// begun returns the content of the file of that name beside an interrupted download.
func begun(t *testing.T, e httptestfault.Resource, name string) (text []byte) {
	t.Helper()
	server, path, o := interrupted(t, e)
	defer server.Close()
	defer o.Client.CloseIdleConnections()
	alter(t, path, name, func(b []byte) []byte {
		text = bytes.Clone(b)
		return b
	})
	return text
}

// alter changes the file of that name in the staging directory beside path, in place.
func alter(t *testing.T, path, name string, how func([]byte) []byte) {
	t.Helper()
	names, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".perdure-*", name))
	if len(names) != 1 {
		t.Errorf("%v; want one %s", names, name)
		return
	}
	text, err := os.ReadFile(strings.Join(names, ""))
	if err := errors.Join(err, os.WriteFile(names[0], how(text), 0o600)); err != nil {
		t.Error(err)
	}
}

// The file is the resource, regardless of what the leftovers of an earlier process have become.
func TestFileBesideSpoiltLeftovers(t *testing.T) {
	want := content(6*part+1, 1)
	e := resource(want, `"1"`) // without a digest: with nothing but the account of the pieces
	var resumed atomic.Int64
	rounds(t, 200, func(round int, random *rand.Rand) {
		server := httptestfault.New(func(n int, r *http.Request) httptestfault.Response {
			switch step := e.Respond(r); n {
			case 1:
				return step.With(httptestfault.CutBody(2*part + random.IntN(2*part)))
			case 2:
				return httptestfault.Response{Status: 404}
			default:
				return step
			}
		})
		defer server.Close()
		c := client(server)
		defer c.CloseIdleConnections()
		path := filepath.Join(t.TempDir(), "file")
		o := download.Options{Client: c, Piece: part, Parallel: -1}
		_, failed := download.File(request(t, server), path, o)
		spoil(t, random, filepath.Dir(path))
		r, err := download.File(request(t, server), path, o)
		got, missing := os.ReadFile(path)
		if err := errors.Join(err, missing); failed == nil || err != nil || !bytes.Equal(got, want) {
			t.Errorf("round %d: %v, then %v, and %d bytes that are not the resource", round, failed, err, len(got))
		}
		if r.Resumed > 0 {
			resumed.Add(1)
		}
	})
	if n := resumed.Load(); n == 0 || n == 200 {
		t.Errorf("%d of 200 resumed; want some", n)
	}
}

// spoil changes one of the files below dir: some of its bytes, or its length.
func spoil(t *testing.T, random *rand.Rand, dir string) {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		t.Errorf("%v, %v; want what the first run left", files, err)
		return
	}
	path := files[random.IntN(len(files))]
	text, err := os.ReadFile(path)
	switch n := random.IntN(max(len(text), 1)); {
	case len(text) == 0:
	case random.IntN(3) == 0:
		text = text[:n]
	default:
		text[n] ^= byte(1 + random.IntN(255))
	}
	if err := errors.Join(err, os.WriteFile(path, text, 0o600)); err != nil {
		t.Error(err)
	}
}
