package redisstore_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/redisstore"
)

// FuzzReplies sends any reply to any command. A reply that passes the guard and that the
// client cannot handle ends the process, and so the test.
func FuzzReplies(f *testing.F) {
	commands := []string{"", "HELLO", "CLIENT", "CLUSTER SLOTS", "SUBSCRIBE", "EVALSHA", "PING", "UNSUBSCRIBE", "SENTINEL SENTINELS", "SENTINEL GET-MASTER-ADDR-BY-NAME", "ROLE"}
	add := func(command, reply string, master, old bool) {
		for i, c := range commands {
			if c == command {
				f.Add(uint8(i), reply, master, old)
			}
		}
	}
	for _, h := range hostile {
		if len(h.reply) < 1000 {
			add(h.command, h.reply, false, len(h.reply)%2 == 0)
		}
	}
	for _, h := range hostileSentinels {
		add(h.command, h.reply, true, false)
		add(h.command, h.reply, true, true)
	}
	f.Fuzz(func(t *testing.T, command uint8, reply string, master, old bool) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		srv := &impostor{Listener: l, command: commands[int(command)%len(commands)], reply: reply}
		go srv.serve()
		url := "redis://" + l.Addr().String() + "?protocol=" + map[bool]string{false: "3", true: "2"}[old]
		if master {
			url += "&master_set=main"
		}
		s, err := redisstore.Open(redisstore.Options{URL: url, Sync: 10 * time.Millisecond, Stale: 30 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		b := circuit.New("backend", circuit.Config{Store: s, FailureThreshold: 1, Observe: func(context.Context, circuit.Transition) {}})
		fail(t, b)
		eventually(t, func() bool { _, responded := s.Status("backend"); return s.Err() != nil || !responded.IsZero() }, "the store has tried to connect")
		go s.Close() // takes a second, for the pending reports
	})
}
