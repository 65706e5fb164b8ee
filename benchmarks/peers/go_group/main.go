// The claim endpoint of ../go with group commit: claims wait while their lane has two calls under way, and when one
// ends, all that wait leave in the next. It calls our own lua/claim.lua, so a persister takes its events into the ledger.
package main

import (
	"errors"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gomodule/redigo/redis"
	"github.com/valyala/fasthttp"
)

const keysKeptMax = 4096

// What claim.lua answers, in the words of the HTTP answer. Any other letter is an error.
var outcomes = map[byte]string{
	'C': "claimed", 'A': "already_claimed", 'E': "sold_out", 'X': "expired", 'R': "retracted",
}

type claim struct {
	packetID, userID string
	letter           byte // 0: not decided
	amountFen        int64
	decided          chan struct{}
}

type lane struct {
	began   sync.Once
	lock    sync.Mutex
	some    *sync.Cond
	waiting []*claim
}

// One of a lane's callers: it has one call under way at a time. Its slices and maps are used again in each call.
type caller struct {
	lane  *lane
	tag   string
	epoch string
	batch []*claim
	// The batch by packet, in the order of its first claims.
	packets []string
	claims  [][]*claim
	places  map[string]int
	words   []interface{}
	keys    map[string][]interface{}
}

var (
	pool                                *redis.Pool
	script                              *redis.Script
	backlogMax, callsMax, claimsPerCall int
	lanes                               [1000]lane
	spare                               = sync.Pool{New: func() interface{} {
		return &claim{decided: make(chan struct{}, 1)}
	}}
)

func (l *lane) begin(number string) {
	l.some = sync.NewCond(&l.lock)
	for i := 0; i < callsMax; i++ {
		c := &caller{lane: l, tag: "{hongbao:" + number + "}"}
		c.places, c.keys = map[string]int{}, map[string][]interface{}{}
		go c.work()
	}
}

func (l *lane) decide(waiting *claim) {
	l.lock.Lock()
	l.waiting = append(l.waiting, waiting)
	l.lock.Unlock()
	l.some.Signal()
	<-waiting.decided
}

func (c *caller) work() {
	for {
		c.take()
		if err := c.call(); err != nil {
			log.Print(err) // the claims are not decided, and are answered so
		}
		for _, claim := range c.batch {
			claim.decided <- struct{}{}
		}
	}
}

func (c *caller) take() {
	l := c.lane
	l.lock.Lock()
	for len(l.waiting) == 0 {
		l.some.Wait()
	}
	count := len(l.waiting)
	if count > claimsPerCall {
		count = claimsPerCall
	}
	c.batch = append(c.batch[:0], l.waiting[:count]...)
	l.waiting = l.waiting[:copy(l.waiting, l.waiting[count:])]
	l.lock.Unlock()
}

func (c *caller) call() error {
	connection := pool.Get()
	defer connection.Close()
	if c.epoch == "" {
		epoch, err := redis.String(connection.Do("HGET", c.tag+":lane", "epoch"))
		if err != nil {
			return err
		}
		c.epoch = epoch
	}
	c.group()
	reply, err := redis.Values(script.Do(connection, c.words...))
	if err != nil {
		return err
	}
	if word := string(reply[0].([]byte)); word != "OK" {
		c.epoch = ""
		return errors.New(word)
	}
	letters, values, place := reply[1].([]byte), reply[2].([]interface{}), 0
	for _, claims := range c.claims[:len(c.packets)] {
		for _, claim := range claims {
			claim.letter, claim.amountFen = letters[place], values[place].(int64)
			place++
		}
	}
	return nil
}

// Sorts the batch by packet, and makes the words of the call: how many keys, the keys, and the arguments.
func (c *caller) group() {
	for _, packetID := range c.packets {
		delete(c.places, packetID)
	}
	c.packets = c.packets[:0]
	for _, claim := range c.batch {
		place, known := c.places[claim.packetID]
		if !known {
			place = len(c.packets)
			c.places[claim.packetID] = place
			c.packets = append(c.packets, claim.packetID)
			if place == len(c.claims) {
				c.claims = append(c.claims, nil)
			}
			c.claims[place] = c.claims[place][:0]
		}
		c.claims[place] = append(c.claims[place], claim)
	}
	c.words = append(c.words[:0], 5+4*len(c.packets),
		c.tag+":lane", c.tag+":events", c.tag+":due", c.tag+":frozen", c.tag+":limited")
	for _, packetID := range c.packets {
		c.words = append(c.words, c.keysOf(packetID)...)
	}
	c.words = append(c.words, c.epoch, backlogMax)
	for place, packetID := range c.packets {
		c.words = append(c.words, packetID, len(c.claims[place]))
		for _, claim := range c.claims[place] {
			c.words = append(c.words, claim.userID)
		}
	}
}

func (c *caller) keysOf(packetID string) []interface{} {
	keys, known := c.keys[packetID]
	if !known {
		if len(c.keys) == keysKeptMax {
			c.keys = map[string][]interface{}{}
		}
		keys = []interface{}{c.tag + ":packet:" + packetID, c.tag + ":shares:" + packetID,
			c.tag + ":claims:" + packetID, c.tag + ":recipients:" + packetID}
		c.keys[packetID] = keys
	}
	return keys
}

func fail(ctx *fasthttp.RequestCtx, status int, text string) {
	ctx.SetStatusCode(status)
	ctx.SetContentType("application/json")
	ctx.SetBodyString(`{"error":"` + text + `"}`)
}

// Whether all of a text is of the characters that a user's id may have. None of them needs an escape in JSON.
func isPlain(text string) bool {
	for i := 0; i < len(text); i++ {
		c := text[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("._:@-", c) >= 0) {
			return false
		}
	}
	return len(text) > 0 && len(text) <= 64
}

func handle(ctx *fasthttp.RequestCtx) {
	path := string(ctx.Path())
	if path == "/readyz" {
		return
	}
	packetID := strings.TrimSuffix(strings.TrimPrefix(path, "/v1/packets/"), "/claims")
	if !ctx.IsPost() || len(packetID) != 19 {
		fail(ctx, 404, "not found")
		return
	}
	if _, err := strconv.ParseUint(packetID, 10, 64); err != nil {
		fail(ctx, 404, "not found")
		return
	}
	userID := string(ctx.Request.Header.Peek("X-User-Id"))
	if !isPlain(userID) {
		fail(ctx, 400, "X-User-Id is missing, or names nobody")
		return
	}
	number, _ := strconv.Atoi(packetID[2:5])
	lane := &lanes[number]
	lane.began.Do(func() { lane.begin(packetID[2:5]) })
	asked := spare.Get().(*claim)
	defer spare.Put(asked)
	asked.packetID, asked.userID, asked.letter = packetID, userID, 0
	lane.decide(asked)
	outcome, known := outcomes[asked.letter]
	if asked.letter == 'M' {
		fail(ctx, 404, "no such packet")
		return
	}
	if !known {
		fail(ctx, 503, "not decided")
		return
	}
	ctx.SetContentType("application/json")
	body := append(make([]byte, 0, 160), `{"outcome":"`...)
	body = append(append(body, outcome...), `","amount_fen":`...)
	body = append(strconv.AppendInt(body, asked.amountFen, 10), `,"packet_id":"`...)
	body = append(append(body, packetID...), `","user_id":"`...)
	ctx.Response.SetBodyRaw(append(append(body, userID...), `"}`...))
}

func number(name string) int {
	value, err := strconv.Atoi(os.Getenv(name))
	if err != nil {
		log.Fatal(name, ": ", err)
	}
	return value
}

func main() {
	source, err := os.ReadFile(os.Getenv("CLAIM_LUA"))
	if err != nil {
		log.Fatal(err)
	}
	script = redis.NewScript(-1, string(source))
	backlogMax, callsMax, claimsPerCall = number("BACKLOG_MAX"), number("CALLS_IN_FLIGHT_MAX"), number("CLAIMS_PER_CALL_MAX")
	pool = &redis.Pool{
		MaxIdle:     256,
		IdleTimeout: time.Minute,
		Dial:        func() (redis.Conn, error) { return redis.DialURL(os.Getenv("REDIS_URL")) },
	}
	server := &fasthttp.Server{Handler: handle, Name: "go"}
	log.Fatal(server.ListenAndServe("127.0.0.1:" + os.Getenv("PORT")))
}
