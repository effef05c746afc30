package redisstore_test

import (
	"bufio"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// An impostor responds as a Redis server does, except to one command, or, if command is
// "", except at the beginning, before it has read a command.
type impostor struct {
	net.Listener

	command string // in capitals; of SENTINEL and CLUSTER the first two words
	reply   string // what follows the mark endless is repeated
	conns   atomic.Int64
	attacks atomic.Int64 // hostile replies
	open    sync.WaitGroup
	ended   chan struct{} // closed when the server ends, with all its connections
}

// endless marks the piece of a reply that is repeated.
const endless = "|...|"

func startImpostor(t *testing.T, command, reply string) *impostor {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	i := &impostor{Listener: l, command: command, reply: reply, ended: make(chan struct{})}
	i.open.Go(i.serve)
	t.Cleanup(func() {
		l.Close()
		close(i.ended) // the client of sentinels can forget a connection that it makes while it is closed
		i.open.Wait()
	})
	return i
}

func (i *impostor) serve() {
	for {
		c, err := i.Accept()
		if err != nil {
			return
		}
		bytes := i.conns.Add(1)%2 == 0 && len(i.reply) < 10_000
		i.open.Go(func() {
			defer c.Close()
			over := make(chan struct{})
			defer close(over)
			go func() {
				select {
				case <-i.ended:
					c.Close()
				case <-over:
				}
			}()
			_ = i.talk(c, bytes)
		})
	}
}

// talk responds to the commands of one connection.
func (i *impostor) talk(c net.Conn, bytes bool) error {
	if i.command == "" {
		if err := i.attack(c, bytes); err != nil {
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
			err = i.attack(c, bytes)
		} else {
			_, err = io.WriteString(c, i.usual(name, words))
		}
		if err != nil {
			return err
		}
	}
}

// attack sends the hostile reply, in one piece or byte by byte.
func (i *impostor) attack(c net.Conn, bytes bool) error {
	i.attacks.Add(1)
	once, again, endless := strings.Cut(i.reply, endless)
	for bytes && len(once) > 0 {
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
		return blobs(view(""))
	}
	return "+OK\r\n"
}

// view returns what a script returns for a closed breaker, with more fields. Of two
// fields with one name the last counts.
func view(more string) string {
	return `{"key":"circuit_breaker:backend","format":"1","epoch":"E","gen":0,"state":"closed","hand":false,` +
		`"open":0,"process":"","node":"","lease":0,"handed":"","ago":0` + more + `}`
}

// blobs returns the texts as a server sends them.
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
