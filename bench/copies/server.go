package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // as Content-MD5
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/seed-0f2c7998/perdure/s3test"
)

// role is the first argument of the process of the servers. It is separate, since the measured memory of a client
// includes that of the process that starts it, which therefore must hold no large file.
const role = "serve"

// servers are the addresses that this process reports.
type servers struct {
	Web, S3, AccessKey, SecretKey string

	command *exec.Cmd
	stdin   io.Closer
}

// start starts the process of the servers; stop ends it.
func start(ctx context.Context, size int64) (*servers, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(ctx, self, role, strconv.FormatInt(size, 10))
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	s := &servers{command: c, stdin: in}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err = errors.Join(err, json.Unmarshal(line, s)); err != nil {
		s.stop()
	}
	return s, err
}

// cpu returns the CPU time of the servers until now; 0 if the system does not say.
func (s *servers) cpu() (all time.Duration) {
	const tick = 10 * time.Millisecond
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.command.Process.Pid))
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	for i := 11; i <= 12 && i < len(fields); i++ { // utime and stime
		n, _ := strconv.Atoi(fields[i])
		all += time.Duration(n) * tick
	}
	return all
}

// sumOfObjects returns what sumOf returns, of the object of that key or of those below it.
func sumOfObjects(s3 *s3test.Server, key string) []byte {
	h := sha256.New()
	if got, ok := s3.Object(bucket, key); ok {
		_, _ = h.Write(got)
		return h.Sum(nil)
	}
	for _, other := range slices.Sorted(slices.Values(s3.Keys(bucket))) {
		if rel, below := strings.CutPrefix(other, key+"/"); below {
			got, _ := s3.Object(bucket, other)
			_, _ = io.WriteString(h, rel)
			_, _ = h.Write(got)
		}
	}
	return h.Sum(nil)
}

func (s *servers) stop() {
	_ = s.stdin.Close()
	_ = s.command.Wait()
}

// serve runs the servers.
func serve(size int64) error {
	large := sync.OnceValue(func() []byte { return content(size) })
	s3, err := s3test.New(s3test.Options{Buckets: []string{bucket}})
	if err != nil {
		return err
	}
	defer s3.Close()
	mux := http.NewServeMux()
	mux.Handle("/large.bin", handler(large))
	mux.HandleFunc("/small.txt", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, small) })
	mux.HandleFunc("/sum", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(sumOfObjects(s3, r.URL.Query().Get("key")))
	})
	web := httptest.NewServer(mux)
	defer web.Close()
	line, err := json.Marshal(servers{Web: web.URL, S3: s3.URL, AccessKey: s3.AccessKey, SecretKey: s3.SecretKey})
	if err != nil {
		return err
	}
	fmt.Println(string(line))
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// small is the content of the small file.
const small = "three bicycles\n"

// content returns the bytes of the large file.
func content(size int64) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// handler serves the large file, with the digest that the query asks for.
func handler(content func() []byte) http.Handler {
	once := func(h func() hash.Hash) func() string {
		return sync.OnceValue(func() string {
			sum := h()
			_, _ = sum.Write(content())
			return base64.StdEncoding.EncodeToString(sum.Sum(nil))
		})
	}
	const amz = "X-Amz-Checksum-"
	digests := map[string]struct {
		header, format string
		value          func() string
	}{
		"crc32":     {amz + "Crc32", "%s", once(func() hash.Hash { return crc32.NewIEEE() })},
		"crc32c":    {amz + "Crc32c", "%s", once(func() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) })},
		"crc64nvme": {amz + "Crc64nvme", "%s", once(func() hash.Hash { return crc64.New(crc64.MakeTable(0x9a6c9329ac4bc9b5)) })},
		"md5":       {"Content-Md5", "%s", once(md5.New)},
		"sha256":    {"Repr-Digest", "sha-256=:%s:", once(sha256.New)},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		if d, ok := digests[r.URL.RawQuery]; ok && r.Header.Get("Range") == "" {
			w.Header().Set(d.header, fmt.Sprintf(d.format, d.value()))
		}
		http.ServeContent(w, r, "large.bin", time.Unix(1, 0), bytes.NewReader(content()))
	})
}
