// A claim endpoint on Fastify and ioredis. enableAutoPipelining sends all commands of one turn of the event loop together.
'use strict'
const fs = require('node:fs')
const fastify = require('fastify')({ logger: false })
const Redis = require('ioredis')

const redis = new Redis(process.env.REDIS_URL, { enableAutoPipelining: true })
redis.defineCommand('grab', { numberOfKeys: 4, lua: fs.readFileSync(process.env.GRAB_LUA, 'utf8') })

const answer = {
  type: 'object',
  properties: {
    outcome: { type: 'string' },
    amount_fen: { type: 'integer' },
    packet_id: { type: 'string' },
    user_id: { type: 'string' }
  }
}

// Some clients name a type for the body that a claim does not have. Fastify would refuse them.
fastify.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => done(null, undefined))

fastify.post('/v1/packets/:packetId/claims', { schema: { response: { 200: answer } } }, async (request, reply) => {
  const packetId = request.params.packetId
  const userId = request.headers['x-user-id']
  if (!userId) return reply.code(400).send({ error: 'X-User-Id is missing' })
  const tag = `{hongbao:${packetId.slice(2, 5)}}`
  const [outcome, amountFen] = await redis.grab(
    `${tag}:packet:${packetId}`, `${tag}:shares:${packetId}`, `${tag}:claims:${packetId}`, `${tag}:events`,
    packetId, userId)
  if (outcome === 'missing') return reply.code(404).send({ error: 'no such packet' })
  return { outcome, amount_fen: Number(amountFen), packet_id: packetId, user_id: userId }
})

fastify.listen({ host: '127.0.0.1', port: Number(process.env.PORT) })
process.on('SIGTERM', () => process.exit(0))
