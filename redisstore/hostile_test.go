package redisstore_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/redisstore"
)

// An impostor answers as a Redis server does, but for one command, or, if that
// is "", from the beginning, before it has read a command.
type impostor struct {
	net.Listener

	command string // in capitals; of SENTINEL and CLUSTER the first two words
	reply   string // what follows the mark endless is repeated
	bytes   bool // it is sent byte by byte
	conns   atomic.Int64
	open    sync.WaitGroup
}

// endless marks the piece of a reply that is repeated.
const endless = "|...|"

func startImpostor(t *testing.T, command, reply string, bytes bool) *impostor {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	i := &impostor{Listener: l, command: command, reply: reply, bytes: bytes}
	go i.serve()
	t.Cleanup(func() { l.Close(); i.open.Wait() })
	return i
}

func (i *impostor) serve() {
	for {
		c, err := i.Accept()
		if err != nil {
			return
		}
		i.conns.Add(1)
		i.open.Go(func() {
			defer c.Close()
			_ = i.talk(c)
		})
	}
}

// talk answers the commands of one connection.
func (i *impostor) talk(c net.Conn) error {
	if i.command == "" {
		if err := i.attack(c); err != nil {
			return err
		}
	}
	for r := bufio.NewReader(c); ; {
		words, err := readCommand(r)
		if err != nil {
			return err
		}
		name := strings.ToUpper(words[0])
		if name == "SENTINEL" || name == "CLUSTER" {
			name += " " + strings.ToUpper(words[1])
		}
		if name == i.command {
			err = i.attack(c)
		} else {
			_, err = io.WriteString(c, i.usual(name, words))
		}
		if err != nil {
			return err
		}
	}
}

// attack sends the hostile reply.
func (i *impostor) attack(c net.Conn) error {
	once, again, endless := strings.Cut(i.reply, endless)
	for i.bytes && len(once) > 0 {
		if _, err := io.WriteString(c, once[:1]); err != nil {
			return err
		}
		once = once[1:]
	}
	_, err := io.WriteString(c, once)
	for again = strings.Repeat(again, 1+4096/max(len(again), 1)); endless && err == nil; {
		_, err = io.WriteString(c, again)
	}
	return err
}

// usual is what a server says to a command.
func (i *impostor) usual(name string, words []string) string {
	host, port, _ := net.SplitHostPort(i.Addr().String())
	address := blobs(host, port)
	switch name {
	case "HELLO":
		return "%3\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:3\r\n"
	case "CLUSTER SLOTS":
		if i.command == "EVALSHA" && strings.HasPrefix(i.reply, "-MOVED") {
			return "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:" + port + "\r\n"
		}
		return "-ERR This instance has cluster support disabled\r\n"
	case "SUBSCRIBE":
		confirmed := ""
		for n, channel := range words[1:] {
			confirmed += ">3\r\n" + blobs("subscribe", channel) + ":" + strconv.Itoa(n+1) + "\r\n"
		}
		return confirmed
	case "UNSUBSCRIBE":
		return ">3\r\n" + blobs("unsubscribe") + "_\r\n:0\r\n"
	case "PING":
		return "+PONG\r\n"
	case "ROLE":
		return "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"
	case "SENTINEL SENTINELS":
		return "*0\r\n"
	case "SENTINEL GET-MASTER-ADDR-BY-NAME":
		return "*2\r\n" + address
	case "EVALSHA", "EVAL":
		return blobs(`{"key":"circuit_breaker:backend","format":"1","epoch":"E","gen":0,"state":"closed","hand":false,` +
			`"open":0,"process":"","node":"","lease":0,"hold":0,"held":"","handed":"","ago":0}`)
	}
	return "+OK\r\n"
}

// blobs are the texts as a server sends them.
func blobs(texts ...string) (all string) {
	for _, s := range texts {
		all += "$" + strconv.Itoa(len(s)) + "\r\n" + s + "\r\n"
	}
	return all
}

// readCommand reads one command.
func readCommand(r *bufio.Reader) (words []string, err error) {
	number := func() (n int) {
		var line string
		if line, err = r.ReadString('\n'); err == nil {
			n, err = strconv.Atoi(strings.TrimSpace(line[1:]))
		}
		return n
	}
	for n := number(); n > 0 && err == nil; n-- {
		text := make([]byte, number()+2)
		if err == nil {
			_, err = io.ReadFull(r, text)
			words = append(words, string(text[:len(text)-2]))
		}
	}
	return words, err
}

// hostile are replies that no server sends, and what is said of them. Most of
// them used to end the process: what the client reads it believes.
var hostile = []struct{ what, command, reply, want string }{
	{"noise", "", "\x00\xff\x80" + strings.Repeat("\x07\r\n", 1000), "unknown type"},
	{"HTTP", "", "HTTP/1.1 400 Bad Request\r\n\r\n", "unknown type 'H'"},
	{"a greeting", "", "+hello\r\n", "without a request"},
	{"negative lengths", "HELLO", "$-5\r\n*-7\r\n", `invalid length "-5"`},
	{"a negative array", "HELLO", "*-7\r\n", `invalid length "-7"`},
	{"a negative map", "HELLO", "%-1\r\n", `invalid length "-1"`},
	{"a negative set", "EVALSHA", "~-1\r\n", `invalid length "-1"`},
	{"a negative error", "EVALSHA", "!-2\r\n", `invalid length "-2"`},
	{"a negative text later", "EVALSHA", "$-5\r\n", `invalid length "-5"`},
	{"a negative text in a push", "SUBSCRIBE", ">3\r\n$9\r\nsubscribe\r\n$-3\r\n:1\r\n", `invalid length "-3"`},
	{"a length that is none", "EVALSHA", "$1x\r\n", `invalid length "1x"`},
	{"no length", "EVALSHA", "$\r\n", `invalid length ""`},
	{"a length with a sign", "EVALSHA", "$+3\r\nabc\r\n", `invalid length "+3"`},
	{"a length that overflows", "EVALSHA", "*9223372036854775808\r\n", "is more than 16777216"},
	{"a map whose length overflows twice", "EVALSHA", "%4611686018427387905\r\n", "is more than 16777216"},
	{"a huge text", "EVALSHA", "$2000000000\r\n", "length 2000000000 is more than 16777216"},
	{"a huge text with data", "HELLO", "$20000000000\r\n" + endless + "a", "is more than 16777216"},
	{"a huge array", "EVALSHA", "*2000000000\r\n", "is more than 16777216"},
	{"a huge map", "HELLO", "%1000000000\r\n", "is more than 16777216"},
	{"an array of too many elements", "EVALSHA", "*262145\r\n", "message of more than 16777216 bytes"},
	{"arrays within an array", "EVALSHA", "*60000\r\n" + endless + "*60000\r\n", "message of more than 16777216 bytes"},
	{"endless texts", "EVALSHA", "*1000\r\n" + endless + "$65536\r\n" + strings.Repeat("a", 65536) + "\r\n", "message of more than 16777216 bytes"},
	{"a deep array", "HELLO", strings.Repeat("*1\r\n", 5_000), "nested more than 8 deep"},
	{"an array without a bottom", "EVALSHA", endless + "*1\r\n", "nested more than 8 deep"},
	{"a deep map", "EVALSHA", endless + "%1\r\n+k\r\n", "nested more than 8 deep"},
	{"a deep set in a push", "SUBSCRIBE", ">2\r\n+x\r\n" + endless + "~1\r\n", "nested more than 8 deep"},
	{"an endless line", "HELLO", "+" + endless + "a", "line of more than 65536 bytes"},
	{"an endless big number", "EVALSHA", "(" + endless + "1", "line of more than 65536 bytes"},
	{"an endless number", "EVALSHA", ":" + endless + "1", "line of more than 32 bytes"},
	{"an endless length", "EVALSHA", "$" + endless + "0", "line of more than 32 bytes"},
	{"an endless error", "SUBSCRIBE", "-" + endless + "E", "line of more than 65536 bytes"},
	{"a line without CR", "EVALSHA", "+OK\n", "line that does not end with CRLF"},
	{"CR within a line", "EVALSHA", "+O\rK\r\n", "line that does not end with CRLF"},
	{"a text that is longer than it says", "EVALSHA", "$3\r\nabcdef\r\n", "text that does not end with CRLF"},
	{"a text that ends with LF", "EVALSHA", "$3\r\nabc\n\r", "text that does not end with CRLF"},
	{"a boolean that is none", "EVALSHA", "#y\r\n", "invalid boolean"},
	{"a null with a text", "EVALSHA", "_null\r\n", "invalid null"},
	{"a number that is none", "EVALSHA", ":twelve\r\n", "invalid number"},
	{"a float that is none", "EVALSHA", ",1.2.3\r\n", "invalid number"},
	{"a big number that is none", "EVALSHA", "(12a\r\n", "invalid number"},
	{"a streamed text", "EVALSHA", "$?\r\n;4\r\nabcd\r\n;0\r\n", `invalid length "?"`},
	{"an endless stream", "EVALSHA", "$?\r\n" + endless + ";4\r\nabcd\r\n", `invalid length "?"`},
	{"a streamed array", "EVALSHA", "*?\r\n:1\r\n.\r\n", `invalid length "?"`},
	{"an attribute", "EVALSHA", "|1\r\n+ttl\r\n:3600\r\n$2\r\n{}\r\n", "unknown type '|'"},
	{"endless attributes", "HELLO", endless + "|0\r\n", "unknown type '|'"},
	{"the end of no stream", "EVALSHA", ".\r\n", "unknown type '.'"},
	{"a push within a reply", "EVALSHA", "*1\r\n>2\r\n+invalidate\r\n_\r\n", "push within a message"},
	{"a reply twice", "EVALSHA", "$2\r\n{}\r\n$2\r\n{}\r\n" + strings.Repeat("+OK\r\n", 10), "without a request"},
	{"endless replies", "HELLO", endless + "+OK\r\n", "without a request"},
	{"errors with an escape", "HELLO", strings.Repeat("-ERR \x1b]0;pwn\x07 redis://u:hunter2@h/ broken\r\n", 8), "without a request"},
	{"a subscription twice", "SUBSCRIBE", strings.Repeat(">3\r\n"+blobs("subscribe", "circuit_breaker:changes")+":1\r\n", 2), "subscription without a request"},
	{"a subscription for a reply", "EVALSHA", ">3\r\n" + blobs("ssubscribe", "x") + ":1\r\n", "subscription without a request"},
	{"a subscription too short", "SUBSCRIBE", ">2\r\n" + blobs("subscribe", "x"), "a push \"subscribe\" of 2 elements"},
	{"a reply to a subscription", "SUBSCRIBE", "+OK\r\n", "a reply to a subscription that is none"},
	{"a subscription that is queued", "SUBSCRIBE", "+QUEUED\r\n", "a reply to a subscription that is none"},
	{"a subscription that is queued, as an error", "SUBSCRIBE", "-QUEUED\r\n", "a reply to a subscription that is none"},
	{"an empty push", "EVALSHA", ">0\r\n", "a push \"\" of 0 elements"},
	{"a message too short", "SUBSCRIBE", ">2\r\n" + blobs("message", "circuit_breaker:changes"), "a push \"message\" of 2 elements"},
	{"a long message", "SUBSCRIBE", ">3\r\n" + blobs("message", "circuit_breaker:changes", strings.Repeat("a", 2<<20)), "a push of more than 1048576 bytes"},
	{"moved nowhere", "EVALSHA", "-MOVED 1\r\n", "names no address"},
	{"moved nowhere, long form", "EVALSHA", "!11\r\nERR MOVED 1\r\n", "names no address"},
	{"ask nobody", "EVALSHA", "-ASK\r\n", "names no address"},
}

// hostileSentinels are the same of sentinels. Those without a text cost one
// connection, and the next one does without.
var hostileSentinels = []struct{ what, command, reply, want string }{
	{"a sentinel of no address", "SENTINEL SENTINELS", "*0\r\n>3\r\n" + blobs("message", "+sentinel", "sentinel x"), "an event \"+sentinel\""},
	{"a master of no address", "SENTINEL SENTINELS", "*0\r\n>3\r\n" + blobs("message", "+switch-master", "main 127.0.0.1"), "an event \"+switch-master\""},
	{"a restart of no address", "SENTINEL SENTINELS", "*0\r\n>3\r\n" + blobs("message", "+reboot", "master main"), "an event \"+reboot\""},
	{"half an address", "SENTINEL GET-MASTER-ADDR-BY-NAME", "*1\r\n$1\r\nh\r\n", "an array of 1 elements"},
	{"no role", "ROLE", "*0\r\n", "an array of 0 elements"},
	{"channels that are no more, refused twice", "UNSUBSCRIBE", "-ERR no\r\n-ERR no\r\n", ""},
	{"channels that are no more, PONG twice", "UNSUBSCRIBE", "+PONG\r\n+PONG\r\n", ""},
}

// No reply ends the process, or fills its memory, or makes a call fail: the Store
// says once what is wrong, goes on alone, and comes back now and then. Each is
// sent in one piece and byte by byte.
func TestHostileReplies(t *testing.T) {
	text := logged(t)
	peak := watchMemory(t)
	t.Run("all", func(all *testing.T) {
		for i, c := range append(hostile, hostileSentinels...) {
			for _, bytes := range []bool{false, true} {
				srv := startImpostor(all, c.command, c.reply, bytes && len(c.reply) < 10_000) // until all have ended: ports are not reused
				all.Run(fmt.Sprintf("%s bytes=%v", c.what, bytes), func(t *testing.T) {
					t.Parallel()
					query := ""
					if i >= len(hostile) {
						query = "?master_set=main"
					}
					survive(t, srv, query, c.want)
					warned(t, text(), srv.Addr().String(), c.want)
				})
			}
		}
	})
	if mib := peak() >> 20; mib > 512 {
		t.Errorf("%d MiB were in use", mib)
	}
}

// survive uses a Store with the impostor.
func survive(t *testing.T, srv *impostor, query, want string) {
	t.Helper()
	s := open(t, redisstore.Options{
		URL: "redis://user:hunter2@" + srv.Addr().String() + query, Sync: 100 * time.Millisecond, Stale: time.Second,
	})
	b := circuit.New("backend", circuit.Config{
		Store: s, FailureThreshold: 1, RecoveryTimeout: time.Millisecond, Observe: func(circuit.Transition) {},
	})
	said := func() string {
		if err := s.Err(); err != nil {
			return err.Error()
		}
		return ""
	}
	eventually(t, 20*time.Second, func() bool { return strings.Contains(said(), want) }, "the Store says %q", want)
	fail(t, b, 1)
	awaitProbe(t, b).Success()
	eventually(t, 20*time.Second, func() bool { return srv.conns.Load() >= 3 }, "it comes back")
}

// warned checks what is logged of one server.
func warned(t *testing.T, text, addr, want string) {
	t.Helper()
	n := 0
	for line := range strings.Lines(text) {
		if strings.Contains(line, "level=WARN") && strings.Contains(line, addr) {
			n++
		}
		if strings.Contains(line, "hunter2") || strings.ContainsAny(line, "\x1b\x07") {
			t.Errorf("a password or an escape is shown: %q", line)
		}
	}
	if want != "" && n != 1 {
		t.Errorf("%d warnings of it, want 1", n)
	}
}

// watchMemory returns a function that returns how much memory was in use at most.
func watchMemory(t *testing.T) (peak func() uint64) {
	t.Helper()
	var most atomic.Uint64
	stop := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		for tick := time.NewTicker(time.Millisecond); ; {
			select {
			case <-tick.C:
				metrics.Read(sample)
				most.Store(max(most.Load(), sample[0].Value.Uint64()))
			case <-stop:
				tick.Stop()
				return
			}
		}
	})
	return func() uint64 { close(stop); done.Wait(); return most.Load() }
}
