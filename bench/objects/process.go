package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/versitygwtest"
)

// A file is uploaded and downloaded.
type file struct {
	path string
	sum  [sha256.Size]byte
}

// makeFile writes a file of bytes that differ from place to place.
func makeFile(dir string, size int64) (file, error) {
	source := file{path: filepath.Join(dir, "source")}
	f, err := os.Create(source.path)
	if err != nil {
		return source, err
	}
	h := sha256.New()
	_, err = io.CopyN(io.MultiWriter(f, h), rand.NewChaCha8([32]byte{1}), size)
	source.sum = [sha256.Size]byte(h.Sum(nil))
	return source, errors.Join(err, f.Sync(), f.Close())
}

// is reports whether the file of that path has the same bytes.
func (f file) is(path string) error {
	other, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = other.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, other); err != nil {
		return err
	}
	if [sha256.Size]byte(h.Sum(nil)) != f.sum {
		return errors.New("the file that came back is another")
	}
	return nil
}

// there uploads the file and downloads it, each in a separate process, with new servers.
func (t table) there(ctx context.Context, s settings, source file, r row, n int) (got result, err error) {
	at, err := t.start(ctx, s.dir, r.failing, uint64(n))
	defer func() {
		err = errors.Join(err, at.stop())
		got.requests, got.struck = at.requests, at.struck
	}()
	if err != nil {
		return got, err
	}
	back := filepath.Join(s.dir, "back")
	defer func() { _ = os.Remove(back) }()
	how := []string{strconv.FormatInt(s.part, 10), strconv.Itoa(s.parallel), s.delay.String()}
	if got.up, err = at.client(ctx, r.client, "up", source.path, how); err != nil {
		return got, err
	}
	if got.down, err = at.client(ctx, r.client, "down", back, how); err != nil {
		return got, err
	}
	return got, source.is(back)
}

// client makes one transfer.
func (e *endpoint) client(ctx context.Context, name, way, path string, how []string) (c cost, err error) {
	self, err := os.Executable()
	if err != nil {
		return c, err
	}
	cmd := exec.CommandContext(ctx, self, append([]string{roleClient, name, way, path}, how...)...)
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+e.Access, "AWS_SECRET_ACCESS_KEY="+e.Secret, "AWS_REGION=us-east-1",
		"AWS_ENDPOINT_URL="+e.URL, "AWS_CONFIG_FILE="+os.DevNull, "AWS_SHARED_CREDENTIALS_FILE="+os.DevNull)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return c, fmt.Errorf("%w: %s", err, said.String())
	}
	if c.wall, err = time.ParseDuration(out.String()); err != nil {
		return c, err
	}
	c.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		c.memory = usage.Maxrss << 10 // Linux counts KiB
	}
	return c, nil
}

// An endpoint is a running server, perhaps with another behind it.
type endpoint struct {
	URL, Access, Secret string

	requests, struck int            // known when it has stopped
	ends             []func() error // last first
}

func (e *endpoint) stop() (err error) {
	for _, end := range slices.Backward(e.ends) {
		err = errors.Join(err, end())
	}
	return err
}

// start starts the servers of a row. The caller must stop the endpoint, also after an error.
func (t table) start(ctx context.Context, dir string, failing float64, seed uint64) (*endpoint, error) {
	e := &endpoint{}
	if t.versitygw != "" {
		if err := e.gateway(ctx, t.versitygw, dir); err != nil || !t.faults {
			return e, err
		}
	}
	return e, e.s3test(ctx, failing, seed)
}

// s3test starts this program as a server, in front of the running one.
func (e *endpoint) s3test(ctx context.Context, failing float64, seed uint64) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, roleServer, strconv.FormatFloat(failing, 'g', -1, 64), strconv.FormatUint(seed, 10), e.URL, e.Access, e.Secret)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	said := json.NewDecoder(out)
	e.ends = append(e.ends, func() error {
		_ = in.Close()
		count := [2]int{}
		err := said.Decode(&count)
		e.requests, e.struck = count[0], count[1]
		return errors.Join(err, cmd.Wait())
	})
	return said.Decode(e)
}

// gateway starts versitygw, with its objects in a new directory.
func (e *endpoint) gateway(ctx context.Context, binary, dir string) error {
	g, err := versitygwtest.New(ctx, binary, dir, "us-east-1", bucket)
	if err != nil {
		return err
	}
	e.URL, e.Access, e.Secret = g.URL, g.Access, g.Secret
	e.ends = append(e.ends, func() error {
		g.Close()
		return nil
	})
	return nil
}
