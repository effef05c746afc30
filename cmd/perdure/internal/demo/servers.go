package demo

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/s3test"
)

const bucket = "bikes"

// servers are the API and the store. Their faults are drawn from the seed beforehand: each
// fault is that of one attempt for one page or object, so that timing does not change them.
type servers struct {
	api   *httptestfault.Server
	store *s3test.Server

	city     city
	troubles []trouble                 // all kinds
	pages    map[string][]trouble      // remaining faults by request target; guarded by the api's script lock
	objects  map[string][]s3test.Fault // by operation and path; read only
	restless atomic.Pointer[rand.Rand] // if not nil, faults are random; used under the api's script lock
	down     atomic.Int64              // end of the store's outage, in Unix nanoseconds
	left     atomic.Int64              // requests that the outage resets at least, however late they come
}

// A trouble is a fault of the API.
type trouble struct {
	name  string
	spoil func(httptestfault.Response) httptestfault.Response
}

// troubles returns all kinds of faults of the API. The first ones are used at random with
// --keep.
func troubles(slow time.Duration) []trouble {
	return []trouble{
		{"503", func(httptestfault.Response) httptestfault.Response {
			return httptestfault.Response{Status: http.StatusServiceUnavailable, Body: []byte("overloaded\n")}
		}},
		{"reset", func(httptestfault.Response) httptestfault.Response {
			return httptestfault.Response{Fault: httptestfault.Reset()}
		}},
		{"cut body", func(s httptestfault.Response) httptestfault.Response {
			return s.With(httptestfault.CutBody(len(s.Body) / 2))
		}},
		{"429 + Retry-After", func(httptestfault.Response) httptestfault.Response {
			return httptestfault.Response{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"1"}}}
		}},
		{"slow first byte", func(s httptestfault.Response) httptestfault.Response {
			s.Delay = slow
			return s
		}},
	}
}

// keepTroubles is how many kinds of troubles are used with --keep.
const keepTroubles = 3

func startServers(seed uint64, slow time.Duration) (*servers, error) {
	random := rand.New(rand.NewPCG(seed, 2011))
	s := &servers{city: newCity(random), troubles: troubles(slow)}
	s.dealPages(random)
	s.dealObjects(random, slow)
	store, err := s3test.New(s3test.Options{
		AccessKey: "demo", SecretKey: "demo-secret", Buckets: []string{bucket}, Script: s.strike,
	})
	if err != nil {
		return nil, err
	}
	s.store, s.api = store, httptestfault.New(s.respond)
	return s, nil
}

func (s *servers) close() {
	s.api.Close()
	s.store.Close()
}

// dealPages draws the faults of the API: at least one of each kind.
func (s *servers) dealPages(random *rand.Rand) {
	var deck []trouble
	for _, t := range s.troubles {
		for range 1 + random.IntN(2) {
			deck = append(deck, t)
		}
	}
	var targets []string
	for n := range pages {
		targets = append(targets, pagePath(n+1))
	}
	s.pages = deal(random, deck, targets, 2)
}

// dealObjects draws the faults of the store, for the first uploads and for the downloads.
func (s *servers) dealObjects(random *rand.Rand, slow time.Duration) {
	var puts, gets []string
	for n := range pages {
		puts = append(puts, "PutObject /"+bucket+"/"+pageKey(n+1))
		gets = append(gets, "GetObject /"+bucket+"/"+pageKey(n+1))
	}
	for n := range districts {
		gets = append(gets, "GetObject /"+bucket+"/"+tableKey(n+1))
	}
	s.objects = deal(random, several(random, s3test.SlowDown(), s3test.InternalError(), s3test.Reset(),
		s3test.LostResponse(), s3test.CutRequest(1000), s3test.SlowResponse(slow)), puts, 2)
	maps.Copy(s.objects, deal(random, several(random, s3test.SlowDown(), s3test.InternalError(),
		s3test.Fault{Kind: s3test.Cut, Share: 0.5}, s3test.Fault{Kind: s3test.Cut, Share: 0.3, RST: true}), gets, 1))
}

// several returns one or two of each fault.
func several(random *rand.Rand, faults ...s3test.Fault) []s3test.Fault {
	var deck []s3test.Fault
	for _, f := range faults {
		for range 1 + random.IntN(2) {
			deck = append(deck, f)
		}
	}
	return deck
}

// deal assigns each card of the deck to a random target, at most most cards to a target.
func deal[Card any](random *rand.Rand, deck []Card, targets []string, most int) map[string][]Card {
	random.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
	hands := make(map[string][]Card)
	for _, card := range deck {
		target := targets[random.IntN(len(targets))]
		for len(hands[target]) == most {
			target = targets[random.IntN(len(targets))]
		}
		hands[target] = append(hands[target], card)
	}
	return hands
}

// respond is the script of the API, called for one request at a time. Each response closes
// its connection: net/http would repeat a GET on a kept connection by itself.
func (s *servers) respond(_ int, r *http.Request) httptestfault.Response {
	step := s.serve(r)
	if random := s.restless.Load(); random != nil {
		if random.IntN(3) == 0 {
			step = s.troubles[random.IntN(keepTroubles)].spoil(step)
		}
	} else if left := s.pages[r.URL.RequestURI()]; len(left) > 0 {
		s.pages[r.URL.RequestURI()] = left[1:]
		step = left[0].spoil(step)
	}
	step.Last = true
	return step
}

// serve returns the response of a server without faults.
func (s *servers) serve(r *http.Request) httptestfault.Response {
	n, err := strconv.Atoi(r.URL.Query().Get("page"))
	if r.URL.Path != "/stations" || err != nil || n < 1 || n > pages {
		return httptestfault.Response{Status: http.StatusNotFound, Body: []byte("try " + pagePath(1) + "\n")}
	}
	body := s.city.encoded(n)
	return httptestfault.Resource{
		Body: body, ETag: fmt.Sprintf(`"%d-%d"`, n, len(body)), Header: http.Header{"Content-Type": {"application/json"}},
	}.Respond(r)
}

// strike is the script of the store. In an outage it resets every connection.
func (s *servers) strike(r s3test.Request) s3test.Fault {
	if s.left.Add(-1) >= 0 || time.Now().UnixNano() < s.down.Load() {
		return s3test.Reset()
	}
	if faults := s.objects[r.Operation+" "+r.Path]; r.N <= len(faults) {
		return faults[r.N-1]
	}
	return s3test.Fault{}
}

// outage begins an outage of the store. On a busy machine it lasts longer than d, until the breaker has opened and its first
// probe has failed.
func (s *servers) outage(d time.Duration) {
	s.left.Store(threshold + 1)
	s.down.Store(time.Now().Add(d).UnixNano())
}

// requests returns how many requests the servers got.
func (s *servers) requests() int { return len(s.api.Requests()) + s.store.Count("", "") }

// resumed returns how many downloads from the store were resumed.
func (s *servers) resumed() int {
	n := 0
	for _, r := range s.store.Requests() {
		if r.Header.Get("Range") != "" {
			n++
		}
	}
	return n
}

// failAtRandom makes the servers fail at random, about every third and every fourth request.
func (s *servers) failAtRandom(seed uint64) error {
	s.restless.Store(rand.New(rand.NewPCG(seed, 2012)))
	return s.store.SetFaults(s3test.TypicalFaults(seed))
}

// tally returns how many cards the hands have, and a text such as "2x reset" for each kind.
func tally[Card any](hands map[string][]Card, name func(Card) string) (int, []string) {
	sum, counts := 0, make(map[string]int)
	for _, cards := range hands {
		for _, card := range cards {
			counts[name(card)]++
			sum++
		}
	}
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		texts = append(texts, fmt.Sprintf("%dx %s", counts[name], name))
	}
	return sum, texts
}
