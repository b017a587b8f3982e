CREATE ROLE kratos LOGIN PASSWORD 'pa$word$$1/#?%';
CREATE ROLE hydra LOGIN PASSWORD 'h y:d@r''a"\${X}';
CREATE ROLE keto LOGIN PASSWORD '$ecret+&=!;';
CREATE DATABASE kratos OWNER kratos;
CREATE DATABASE hydra OWNER hydra;
CREATE DATABASE keto OWNER keto;
