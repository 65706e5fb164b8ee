// A claim endpoint on fasthttp and redigo. GOMAXPROCS is left as it is: one thread a core.
package main

import (
	"encoding/json"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gomodule/redigo/redis"
	"github.com/valyala/fasthttp"
)

type answer struct {
	Outcome   string `json:"outcome"`
	AmountFen int64  `json:"amount_fen"`
	PacketID  string `json:"packet_id"`
	UserID    string `json:"user_id"`
}

var (
	pool *redis.Pool
	grab *redis.Script
)

func fail(ctx *fasthttp.RequestCtx, status int, text string) {
	ctx.SetStatusCode(status)
	ctx.SetContentType("application/json")
	ctx.SetBodyString(`{"error":"` + text + `"}`)
}

func claim(ctx *fasthttp.RequestCtx) {
	path := string(ctx.Path())
	packetID := strings.TrimSuffix(strings.TrimPrefix(path, "/v1/packets/"), "/claims")
	if !ctx.IsPost() || len(packetID) != 19 {
		fail(ctx, 404, "not found")
		return
	}
	userID := string(ctx.Request.Header.Peek("X-User-Id"))
	if userID == "" {
		fail(ctx, 400, "X-User-Id is missing")
		return
	}
	tag := "{hongbao:" + packetID[2:5] + "}"
	connection := pool.Get()
	reply, err := redis.Strings(grab.Do(connection,
		tag+":packet:"+packetID, tag+":shares:"+packetID, tag+":claims:"+packetID, tag+":events", packetID, userID))
	connection.Close()
	if err != nil {
		fail(ctx, 503, "redis")
		return
	}
	if reply[0] == "missing" {
		fail(ctx, 404, "no such packet")
		return
	}
	amountFen, _ := strconv.ParseInt(reply[1], 10, 64)
	ctx.SetContentType("application/json")
	body, _ := json.Marshal(answer{reply[0], amountFen, packetID, userID})
	ctx.SetBody(body)
}

func main() {
	script, err := os.ReadFile(os.Getenv("GRAB_LUA"))
	if err != nil {
		log.Fatal(err)
	}
	grab = redis.NewScript(4, string(script))
	pool = &redis.Pool{
		MaxIdle:     256,
		IdleTimeout: time.Minute,
		Dial:        func() (redis.Conn, error) { return redis.DialURL(os.Getenv("REDIS_URL")) },
	}
	server := &fasthttp.Server{Handler: claim, Name: "go"}
	log.Fatal(server.ListenAndServe("127.0.0.1:" + os.Getenv("PORT")))
}
