//go:build unix

package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/servertest"
)

// Each bad value of a flag ends the proxy before it serves, with 64 and an error that names flag, value and what is allowed.
func TestBadUsageOfTheProxy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	numbers := []string{"", "0", "-1", "abc", "1e30", "NaN"}
	for _, tt := range []struct {
		flag, allowed string
		values        []string
	}{
		{"--listen", "HOST:PORT", []string{"abc", "9000", "127.0.0.1", "[::1", "::1:9000", "http://127.0.0.1:9000", "tcp:127.0.0.1:0"}},
		{"--listen", "a port from 0 to 65535", []string{"127.0.0.1:99999", "127.0.0.1:-1", "127.0.0.1:abc", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:9000/x"}},
		{"--listen", "a loopback address", []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.com:0", "127.0.0.1.:0", "0x7f.1:0", " 127.0.0.1:0"}},
		{"--listen", "unix:PATH, with the path of a file", []string{"unix:", "unix:@abstract"}},
		{"--listen", "a path of at most ", []string{"unix:" + dir + "/" + strings.Repeat("x", 108)}},
		{"--listen", "a directory that exists", []string{"unix:" + dir + "/absent/s", "unix:" + file + "/s"}},
		{"--listen", "a file of this name exists", []string{"unix:" + file, "unix:" + dir}},
		{"--listen", "not empty", []string{""}},
		{"--to", "an http or https URL", []string{"", "x", "ftp://x", "http://", "http://:", "http://:80", "http://:80/x", "http:///x", "http://a b", "http://[::1", "http://127.0.0.1:abc", "http://a:80:80", "http://a/%zz"}},
		{"--to", "a port from 1 to 65535", []string{"http://127.0.0.1:99999", "http://127.0.0.1:0", "http://[::1]:65536", "/p=http://a:99999", "127.0.0.1:0=http://a:99999"}},
		{"--to", "without query and fragment", []string{"http://a?q", "http://a#f"}},
		{"--to", "without user and password", []string{"http://user@a"}},
		{"--to", "the name or the address of a host", []string{"http://*", "http://a,http", `http://a"b`, "http://a,b"}},
		{"--to", "/PREFIX=URL", []string{"/a", "/", "unix:s"}},
		{"--to", "a path as URLs have it", []string{"/a%zz=http://b", "/a b=http://b", "/a?x=http://b", "/a#x=http://b", "/é=http://b"}},
		{"--to", "a prefix other than /.perdure", []string{"/.perdure=http://b", "/.perdure/x=http://b", "/%2eperdure=http://b"}},
		{"--to", "a path that begins with a slash, or an address", []string{"a=http://b", "=http://b", "127.0.0.1=http://b", "127.0.0.1:99999=http://b", "unix:=http://b"}},
		{"--to", "a loopback address", []string{"0.0.0.0:0=http://b", "example.com:0=http://b"}},
		{"--to", "a directory that exists", []string{"unix:" + dir + "/absent/s=http://b"}},
		{"--to", "one upstream for each path prefix and each address", []string{"http://a.test", "/=http://a.test"}},
		{"--to", "URL,policy=NAME", []string{"/p=http://b,policy="}},
		{"--to", "a preset", []string{"/p=http://b,policy=nope"}},
		{"--host", "the name or the address of a host", []string{"", " ", "a b", "*", "a/b", "http://a", "a:99999", "a:x", "a:", ":80", "user@a", "a,b", "é", "[::1]x"}},
		{"--head-timeout", "seconds", numbers},
		{"--grace", "seconds", numbers},
		{"--spool", "a whole number from 1 to ", numbers},
		{"--allow-remote", "true or false", []string{"maybe"}},
		{"--s3", "true or false", []string{"maybe"}},
		{"--client-key-file", "with --s3", []string{file}},
		{"--policy", "", []string{"", "nope"}},
		{"--config", "", []string{"", dir + "/absent"}},
		{"--rate", "calls per second", []string{"", "0", "abc", "60/w"}},
	} {
		for _, value := range tt.values {
			args := []string{"proxy", tt.flag + "=" + value}
			if tt.flag != "--listen" {
				args = append(args, "--listen", "127.0.0.1:0")
			}
			code, text := ended(t, append(args, "--to", "http://a.test")...)
			if code != 64 || !strings.Contains(text, tt.flag) || !strings.Contains(text, "must be ") || !names(text, value) || !strings.Contains(text, tt.allowed) {
				t.Errorf("%s=%s: exit code %d, %s; want 64 and %s", tt.flag, value, code, text, tt.allowed)
			}
		}
	}
}

// names reports whether an error quotes a value, or what is before or behind its =.
func names(text, value string) bool {
	return slices.ContainsFunc(append(strings.Split(value, "="), value), func(part string) bool {
		return strings.Contains(text, strconv.Quote(part)) || strings.Contains(text, strconv.Quote(strings.Replace(part, "user@", "REDACTED@", 1)))
	})
}

// A port that is in use is no bad usage.
func TestThePortIsInUse(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, args := range [][]string{
		{"--listen", l.Addr().String(), "--to", "http://a.test"},
		{"--to", l.Addr().String() + "=http://a.test"},
	} {
		if code, text := ended(t, append([]string{"proxy"}, args...)...); code != 1 || !strings.Contains(text, l.Addr().String()) || !strings.Contains(text, "in use") {
			t.Errorf("%v: exit code %d, %s", args, code, text)
		}
	}
}

// ended runs the command, and returns its exit code and what it wrote to standard error.
func ended(t *testing.T, args ...string) (code int, text string) {
	t.Helper()
	c := command(t, []string{"XDG_CONFIG_HOME=" + t.TempDir()}, args...)
	var stderr strings.Builder
	c.Stderr = &stderr
	start(t, c)
	exited := make(chan struct{})
	go func() { _ = c.Wait(); close(exited) }()
	servertest.Until(t, fmt.Sprintf("%q has ended", args), func() bool { // it does not serve
		select {
		case <-exited:
			return true
		default:
			return false
		}
	})
	return c.ProcessState.ExitCode(), stderr.String()
}
