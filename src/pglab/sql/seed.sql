-- The seed document's three tables, exactly as it writes them (comments included).
-- Nothing here is mended: lesson 02 finds out what goes wrong, and schema.sql is what it arrives at.
-- Source: section "¿Qué Almacena PostgreSQL para Evolution?" of the seed document 2.2 (see data/README.md).

CREATE SCHEMA seed;
SET LOCAL search_path TO seed;

-- Ejemplo de tabla de sesiones (simplificado)
CREATE TABLE sessions (
    id UUID PRIMARY KEY,
    instance_name VARCHAR(255) UNIQUE NOT NULL,
    session_data JSONB NOT NULL,  -- Credenciales encriptadas
    qr_code TEXT,                  -- Último QR generado
    status VARCHAR(50),            -- connected | disconnected | qr
    created_at TIMESTAMP,
    updated_at TIMESTAMP
);

CREATE TABLE instances (
    id UUID PRIMARY KEY,
    name VARCHAR(255) UNIQUE NOT NULL,  -- ej: "sciencebot-production"
    phone_number VARCHAR(20),
    webhook_url TEXT,                   -- URL para webhooks
    webhook_events JSONB,               -- ["messages.upsert", "connection.update"]
    settings JSONB,                     -- Configuraciones específicas
    created_at TIMESTAMP
);

CREATE TABLE messages (
    id UUID PRIMARY KEY,
    instance_id UUID REFERENCES instances(id),
    remote_jid VARCHAR(255),        -- Número de destino
    message_id VARCHAR(255),        -- ID de WhatsApp
    message_type VARCHAR(50),       -- text | image | audio
    content TEXT,
    timestamp BIGINT,
    from_me BOOLEAN,
    status VARCHAR(20)              -- sent | delivered | read
);
